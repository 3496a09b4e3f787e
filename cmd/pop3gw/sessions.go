package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pop3gw/gateway/admin"
)

const (
	sessionsTimeout = 10 * time.Second
	maxUserShown    = 60 // characters of a name in the table
	// maxSessionsReply bounds what the gateway may answer, in octets.
	maxSessionsReply = 64 << 20
)

func newSessionsCommand() *cobra.Command {
	var path, kick string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "Show who is connected, or end a session",
		Long: `Show the sessions of the running gateway: who, from where, since when, doing what.
With --kick one of them is ended: a running command gets five seconds, a removal of
messages that has begun is finished, and nothing else is removed. Its client may
come again at once.

It asks the admin listener of the configuration, [admin].`,
		Example: "  pop3gw sessions\n  pop3gw sessions --json\n  pop3gw sessions --kick K7QZ2M4XHA",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("kick") && asJSON {
				return usageError{errors.New("--kick prints no sessions; leave --json out")}
			}
			c, err := loadConfig(configPath(path))
			if err != nil {
				return usageError{err}
			}
			gw, err := c.adminClient()
			if err != nil {
				return usageError{err}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), sessionsTimeout)
			defer cancel()
			if cmd.Flags().Changed("kick") {
				if err := gw.kick(ctx, kick); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "session %s is being ended\n", kick)
				return err
			}
			raw, err := gw.ask(ctx, http.MethodGet, "/api/sessions")
			if err != nil {
				return err
			}
			if asJSON {
				_, err := cmd.OutOrStdout().Write(raw)
				return err
			}
			var sessions []admin.Session
			if err := json.Unmarshal(raw, &sessions); err != nil {
				return fmt.Errorf("%s answers what is no list of sessions (%w); does another program listen there?", gw.url, err)
			}
			return printSessions(cmd.OutOrStdout(), sessions, time.Now())
		},
	}
	addConfigFlag(cmd, &path)
	cmd.Flags().StringVar(&kick, "kick", "", "end the session with this `ID`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, an array of objects")
	return cmd
}

// adminClient asks a running gateway.
type adminClient struct{ url, token string }

func (c *config) adminClient() (*adminClient, error) {
	address, err := c.adminURL()
	if err != nil {
		return nil, err
	}
	token, err := c.adminToken()
	return &adminClient{address, token}, err
}

func (a *adminClient) kick(ctx context.Context, id string) error {
	if id == "" {
		return errors.New("--kick wants the ID of a session; 'pop3gw sessions' shows them")
	}
	_, err := a.ask(ctx, http.MethodPost, "/api/sessions/"+url.PathEscape(id)+"/kick")
	return err
}

// ask returns what the gateway answers.
func (a *adminClient) ask(ctx context.Context, method, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, nil)
	if err != nil {
		return nil, err
	}
	if a.token != "" {
		request.Header.Set("Authorization", "Bearer "+a.token)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy of the environment
	response, err := client.Do(request)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, fmt.Errorf("%w; is pop3gw running, and with this configuration?", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxSessionsReply))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading from %s: %w", a.url, err)
	case response.StatusCode == http.StatusUnauthorized:
		return nil, fmt.Errorf("%s refuses the token of [admin]; was it changed since the gateway started?", a.url)
	case response.StatusCode >= 300:
		return nil, fmt.Errorf("%s: %s", a.url, strings.TrimSpace(string(body[:min(len(body), 300)])))
	}
	return body, nil
}

// printSessions prints a table. What clients wrote is quoted where it could do
// something to a terminal.
func printSessions(w io.Writer, sessions []admin.Session, now time.Time) error {
	if len(sessions) == 0 {
		_, err := fmt.Fprintln(w, "nobody is connected")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tUSER\tFROM\tSTATE\tCOMMAND\tSILENT\tCONNECTED\tMESSAGES\tSENT\tLISTENER\tTLS\tADAPTER")
	for _, s := range sessions {
		command, messages := s.Command, "-"
		if !s.Waiting && command != "" {
			command += "…" // it runs
		}
		if s.State != "authorization" {
			messages = fmt.Sprintf("%d/%d", s.Retrieved, s.Messages)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", s.ID, cmp.Or(shown(s.User), "-"), cmp.Or(s.Address, "-"), s.State,
			cmp.Or(command, "-"), now.Sub(s.Active).Round(time.Second), now.Sub(s.Started).Round(time.Second), messages, s.OctetsSent,
			s.Listener, s.TLS, cmp.Or(s.Adapter, "-"))
	}
	return table.Flush()
}

// shown is text that a client wrote, for a terminal.
func shown(text string) string {
	if all := []rune(text); len(all) > maxUserShown {
		text = string(all[:maxUserShown-1]) + "…"
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) || r == '"' }) || strings.ContainsRune(text, '\uFFFD') {
		return strconv.QuoteToASCII(text)
	}
	return text
}
