package main

// checkForms refuses forms of unique-ids that must be kept where nothing is.
func (c *config) checkForms() (errs []error) {
	for _, name := range c.adapterNames() {
		a := c.adapters[name]
		key := "adapters." + name + "."
		if c.State.URL != "" || a.Type != "imap" || !a.IMAP.KeepsNames() {
			continue
		}
		if a.IMAP.ReuseXUIDL {
			errs = append(errs, c.source.errorf(key+"reuse_x_uidl", "found true; set state.url as well, a folder where these unique-ids are kept"))
		} else {
			errs = append(errs, c.source.errorf(key+"uidl", "found %q; set state.url as well, a folder where these unique-ids are kept", a.IMAP.UIDL))
		}
	}
	return errs
}
