package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"pop3gw/adapters/imap"
	"pop3gw/adapters/maildir"
	"pop3gw/gateway"
	"pop3gw/gateway/oauth"
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
	OAuth     map[string]oauth.Options  `toml:"oauth"`
	Login     loginConfig               `toml:"login"`
	Limits    gateway.Limits            `toml:"limits"`
	Lock      lockConfig                `toml:"lock"`
	State     stateConfig               `toml:"state"`
	Admin     adminConfig               `toml:"admin"`
	Enrol     enrolConfig               `toml:"enrol"`
	Log       logConfig                 `toml:"log"`

	source   *source
	adapters map[string]adapterConfig // Adapters, decoded by their type
}

type listenerConfig struct {
	Address           string   `toml:"address"`
	TLS               string   `toml:"tls"`
	CleartextLogin    string   `toml:"cleartext_login"`
	ProxyProtocolFrom []string `toml:"proxy_protocol_from"`
	Mechanisms        []string `toml:"mechanisms"`
	Workarounds       []string `toml:"workarounds"`
	TLSProfile        string   `toml:"tls_profile"`
	ClientCAFile      string   `toml:"client_ca_file"`
}

type tlsConfig struct {
	pairConfig
	Certificates []pairConfig `toml:"certificates"`
}

// pairConfig is a certificate with its key.
type pairConfig struct {
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
}

func (t tlsConfig) isSet() bool { return t.pairConfig != (pairConfig{}) || len(t.Certificates) > 0 }

// keyedPair is a pair with the key of its table.
type keyedPair struct {
	key   string
	files pairConfig
}

// pairs are all certificates; the first is the default.
func (t tlsConfig) pairs() (pairs []keyedPair) {
	if t.pairConfig != (pairConfig{}) {
		pairs = append(pairs, keyedPair{"tls", t.pairConfig})
	}
	for i, p := range t.Certificates {
		pairs = append(pairs, keyedPair{fmt.Sprintf("tls.certificates[%d]", i), p})
	}
	return pairs
}

type userConfig struct {
	Name                 string `toml:"name"`
	Password             string `toml:"password"`
	PasswordFile         string `toml:"password_file"`
	Adapter              string `toml:"adapter"`
	UpstreamUser         string `toml:"upstream_user"`
	UpstreamPassword     string `toml:"upstream_password"`
	UpstreamPasswordFile string `toml:"upstream_password_file"`
	OAuth                string `toml:"oauth"`
	OAuthUser            string `toml:"oauth_user"`
	gateway.Policy
}

type routeConfig struct {
	Users      string `toml:"users"`
	Adapter    string `toml:"adapter"`
	PasswdFile string `toml:"passwd_file"`
	OAuth      string `toml:"oauth"`
	gateway.Policy
}

type loginConfig struct {
	DefaultDomain string `toml:"default_domain"`
	LowerCase     bool   `toml:"lower_case"`
}

type lockConfig struct {
	WhenBusy string        `toml:"when_busy"`
	Wait     time.Duration `toml:"wait"`
}

type stateConfig struct {
	URL     string `toml:"url"`
	KeyFile string `toml:"key_file"`
}

type enrolConfig struct {
	Address   string          `toml:"address"`
	PublicURL string          `toml:"public_url"`
	Domains   []string        `toml:"domains"`
	Providers []enrolProvider `toml:"providers"`
}

type enrolProvider struct {
	OAuth   string `toml:"oauth"`
	Adapter string `toml:"adapter"`
	Title   string `toml:"title"`
}

func (e enrolConfig) isSet() bool {
	return e.Address != "" || e.PublicURL != "" || len(e.Domains) > 0 || len(e.Providers) > 0
}

type adminConfig struct {
	Address   string `toml:"address"`
	Token     string `toml:"token"`
	TokenFile string `toml:"token_file"`
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

// loadConfig reads a configuration file. The error is one for each mistake,
// joined; each names the file and, where there is one, the line and the key.
func loadConfig(path string) (*config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; name the configuration file with --config or $POP3GW_CONFIG", err)
	}
	return parseConfig(path, text)
}

// parseConfig is loadConfig of a file that was read. No other file is.
func parseConfig(path string, text []byte) (*config, error) {
	c := &config{source: newSource(path, text), adapters: make(map[string]adapterConfig)}
	var table map[string]any
	if _, err := toml.Decode(string(text), &table); err != nil {
		return nil, c.source.syntaxError(err)
	}
	if err := c.source.checkTable("", table, reflect.TypeFor[config]()); err != nil {
		return nil, err
	}
	meta, err := toml.Decode(string(text), c)
	if err != nil {
		return nil, c.source.syntaxError(err)
	}
	for name, primitive := range c.Adapters {
		a := adapterConfig{Type: table["adapters"].(map[string]any)[name].(map[string]any)["type"].(string)}
		if a.Type == "maildir" {
			err = meta.PrimitiveDecode(primitive, &a.Maildir)
		} else {
			err = meta.PrimitiveDecode(primitive, &a.IMAP)
		}
		if err != nil {
			return nil, c.source.syntaxError(err)
		}
		c.adapters[name] = a
	}
	return c, c.check()
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
		return "", c.source.errorf(key, "found this and %s_file; set one of them", key[strings.LastIndexByte(key, '.')+1:])
	}
	text, err := os.ReadFile(c.path(file))
	if err != nil {
		return "", c.source.errorf(key+"_file", "%w; it must be a file that the gateway's user (uid %d) can read", err, os.Geteuid())
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", c.source.errorf(key+"_file", "the first line of %s is empty; it must hold the secret", c.path(file))
	}
	return line, nil
}
