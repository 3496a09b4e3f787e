package main

// checkForms refuses forms of unique-ids that must be kept where nothing is.
func (c *config) checkForms() (errs []error) {
	for _, name := range c.adapterNames() {
		a := c.adapters[name]
		key := "adapters." + name + "."
		keeps, reuse, form := a.IMAP.KeepsNames(), a.IMAP.ReuseXUIDL, string(a.IMAP.UIDL)
		if a.Type == "maildir" {
			keeps, reuse, form = a.Maildir.KeepsNames(), a.Maildir.ReuseXUIDL, string(a.Maildir.UIDL)
		}
		if c.State.URL != "" || !keeps {
			continue
		}
		if reuse {
			errs = append(errs, c.source.errorf(key+"reuse_x_uidl", "found true; set state.url as well, a folder where these unique-ids are kept"))
		} else {
			errs = append(errs, c.source.errorf(key+"uidl", "found %q; set state.url as well, a folder where these unique-ids are kept", form))
		}
	}
	return errs
}
