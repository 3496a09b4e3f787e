package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"pop3gw/adapters/imap"
	"pop3gw/adapters/maildir"
	"pop3gw/gateway"
)

const defaultConfigFile = "/etc/pop3gw/config.toml"

// config is the configuration file; config.example.toml describes its keys.
type config struct {
	Hostname  string                    `toml:"hostname"`
	Listeners []listenerConfig          `toml:"listeners"`
	TLS       tlsConfig                 `toml:"tls"`
	Adapters  map[string]toml.Primitive `toml:"adapters"`
	Users     []userConfig              `toml:"users"`
	Routes    []routeConfig             `toml:"routes"`
	Limits    gateway.Limits            `toml:"limits"`
	Lock      lockConfig                `toml:"lock"`
	Login     loginConfig               `toml:"login"`
	State     stateConfig               `toml:"state"`
	Log       logConfig                 `toml:"log"`

	source   *source
	adapters map[string]adapterConfig // Adapters, decoded by their type
}

type listenerConfig struct {
	Address        string   `toml:"address"`
	TLS            string   `toml:"tls"`
	CleartextLogin string   `toml:"cleartext_login"`
	Mechanisms     []string `toml:"mechanisms"`
	Workarounds    []string `toml:"workarounds"`
}

type tlsConfig struct {
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
}

type userConfig struct {
	Name                 string `toml:"name"`
	Password             string `toml:"password"`
	PasswordFile         string `toml:"password_file"`
	Adapter              string `toml:"adapter"`
	UpstreamUser         string `toml:"upstream_user"`
	UpstreamPassword     string `toml:"upstream_password"`
	UpstreamPasswordFile string `toml:"upstream_password_file"`
}

type routeConfig struct {
	Users      string `toml:"users"`
	Adapter    string `toml:"adapter"`
	PasswdFile string `toml:"passwd_file"`
}

type lockConfig struct {
	WhenBusy string `toml:"when_busy"`
}

type loginConfig struct {
	DefaultDomain string `toml:"default_domain"`
	LowerCase     bool   `toml:"lower_case"`
}

type stateConfig struct {
	URL string `toml:"url"`
}

type logConfig struct {
	Format string `toml:"format"`
	Level  string `toml:"level"`
}

// adapterConfig is one table of [adapters]. The options of its type are set.
type adapterConfig struct {
	Type    string
	Maildir maildir.Options
	IMAP    imap.Options
}

// Tables with the key that says which of them it is.
type (
	maildirTable struct {
		Type string `toml:"type"`
		maildir.Options
	}
	imapTable struct {
		Type string `toml:"type"`
		imap.Options
	}
)

// configPath is the file of --config, or else what stands in for it.
func configPath(flag string) string {
	if flag != "" {
		return flag
	}
	if env := os.Getenv("POP3GW_CONFIG"); env != "" {
		return env
	}
	return defaultConfigFile
}

// loadConfig reads a configuration file. Every error names the file and, where
// there is one, the line and the key.
func loadConfig(path string) (*config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; name another file by --config or $POP3GW_CONFIG", err)
	}
	return parseConfig(path, text)
}

func parseConfig(path string, text []byte) (*config, error) {
	c := &config{source: newSource(path, text), adapters: make(map[string]adapterConfig)}
	meta, err := toml.Decode(string(text), c)
	if err != nil {
		return nil, c.source.decodeError(err)
	}
	known := knownKeys(*c, "")
	for _, name := range slices.Sorted(maps.Keys(c.Adapters)) {
		a, err := c.decodeAdapter(meta, name)
		if err != nil {
			return nil, err
		}
		c.adapters[name] = a
		known = append(known, "adapters."+name)
		switch a.Type {
		case "maildir":
			known = append(known, knownKeys(maildirTable{}, "adapters."+name+".")...)
		case "imap":
			known = append(known, knownKeys(imapTable{}, "adapters."+name+".")...)
		}
	}
	if undecoded := meta.Undecoded(); len(undecoded) > 0 {
		return nil, c.source.unknownKey(strings.Join(undecoded[0], "."), known)
	}
	return c, c.check()
}

func (c *config) decodeAdapter(meta toml.MetaData, name string) (adapterConfig, error) {
	key := "adapters." + name
	var a adapterConfig
	var kind struct {
		Type string `toml:"type"`
	}
	if err := meta.PrimitiveDecode(c.Adapters[name], &kind); err != nil {
		return a, c.source.decodeError(err)
	}
	a.Type = kind.Type
	var err error
	switch a.Type {
	case "maildir":
		var table maildirTable
		err = meta.PrimitiveDecode(c.Adapters[name], &table)
		a.Maildir = table.Options
	case "imap":
		var table imapTable
		err = meta.PrimitiveDecode(c.Adapters[name], &table)
		a.IMAP = table.Options
		if err == nil {
			a.IMAP.MasterPassword, err = c.secret(key+".master_password", a.IMAP.MasterPassword, a.IMAP.MasterPasswordFile)
		}
		a.IMAP.CAFile = c.path(a.IMAP.CAFile)
		return a, err
	case "":
		return a, c.source.errorf(key+".type", `missing; "maildir" or "imap"`)
	default:
		return a, c.source.errorf(key+".type", `found %q; allowed are "maildir" and "imap"`, a.Type)
	}
	if err != nil {
		return a, c.source.decodeError(err)
	}
	return a, nil
}

// check finds what cannot be right, before anything is opened.
func (c *config) check() error {
	if len(c.Listeners) == 0 {
		return c.source.errorf("listeners", "there is none; add a [[listeners]] table with an address")
	}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		key := fmt.Sprintf("listeners[%d].", i)
		if l.Address == "" {
			return c.source.errorf(key+"address", `missing; such as "0.0.0.0:110"`)
		}
		if l.TLS == "" && c.TLS.Certificate == "" {
			l.TLS = "none"
		}
		for _, e := range []error{
			c.oneOf(key+"tls", &l.TLS, "stls", "none", "implicit"),
			c.oneOf(key+"cleartext_login", &l.CleartextLogin, "loopback", "never", "always"),
			c.eachOf(key+"mechanisms", l.Mechanisms, gateway.Mechanisms...),
			c.eachOf(key+"workarounds", l.Workarounds, workaroundNUL, workaroundEndHeader),
		} {
			if e != nil {
				return e
			}
		}
		if l.Mechanisms != nil && len(l.Mechanisms) == 0 {
			return c.source.errorf(key+"mechanisms", "the list is empty, so that nobody could log in; leave the key out for the default")
		}
		if l.TLS != "none" && (c.TLS.Certificate == "" || c.TLS.Key == "") {
			return c.source.errorf(key+"tls", `%q needs a certificate: set certificate and key in [tls]`, l.TLS)
		}
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		return c.source.errorf("tls", "certificate and key go together")
	}
	c.TLS.Certificate, c.TLS.Key = c.path(c.TLS.Certificate), c.path(c.TLS.Key)
	if len(c.Users) == 0 && len(c.Routes) == 0 {
		return c.source.errorf("", "there is neither a [[users]] nor a [[routes]] table, so that nobody could log in")
	}
	for _, e := range []error{
		c.oneOf("lock.when_busy", &c.Lock.WhenBusy, "refuse"),
		c.oneOf("log.format", &c.Log.Format, "text", "json"),
		c.oneOf("log.level", &c.Log.Level, "info", "debug", "warn", "error"),
		c.checkDurations(),
	} {
		if e != nil {
			return e
		}
	}
	if c.State.URL != "" && !strings.HasPrefix(c.State.URL, "file:///") {
		return c.source.errorf("state.url", `found %q; allowed is "file:///" and a folder`, c.State.URL)
	}
	return nil
}

func (c *config) checkDurations() error {
	l := c.Limits
	for key, d := range map[string]time.Duration{
		"idle_timeout": l.IdleTimeout, "login_timeout": l.LoginTimeout, "update_timeout": l.UpdateTimeout,
		"write_timeout": l.WriteTimeout, "login_failure_delay": l.LoginFailureDelay,
	} {
		if d > 0 && d < time.Microsecond { // a bare number is nanoseconds to the TOML library
			return c.source.errorf("limits."+key, `found %d; write a time with its unit, such as "10m" or "500ms"`, int64(d))
		}
	}
	if err := l.Check(); err != nil {
		key, rest, _ := strings.Cut(err.Error(), " ")
		return c.source.errorf("limits."+key, "%s", rest)
	}
	return nil
}

// oneOf checks a value; the first of allowed is the default.
func (c *config) oneOf(key string, value *string, allowed ...string) error {
	if *value == "" {
		*value = allowed[0]
	}
	return c.eachOf(key, []string{*value}, allowed...)
}

func (c *config) eachOf(key string, values []string, allowed ...string) error {
	for _, v := range values {
		if !slices.Contains(allowed, v) {
			return c.source.errorf(key, `found %q; allowed: "%s"`, v, strings.Join(allowed, `", "`))
		}
	}
	return nil
}

// path makes a path of the file relative to the folder that the file is in.
func (c *config) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(c.source.path), p)
}

// secret is value, or the first line of file; key is that of the value.
func (c *config) secret(key, value, file string) (string, error) {
	if file == "" {
		return value, nil
	}
	if value != "" {
		return "", c.source.errorf(key, "set this or %s_file, not both", key[strings.LastIndexByte(key, '.')+1:])
	}
	text, err := os.ReadFile(c.path(file))
	if err != nil {
		return "", c.source.errorf(key+"_file", "%w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", c.source.errorf(key+"_file", "the first line of %s is empty; it must hold the secret", file)
	}
	return line, nil
}
