package oauth

import (
	"context"
	"time"
)

const (
	// unused is how long nobody has wanted a token when KeepAlive renews it. Providers
	// end what is not used for 90 days (Microsoft) or six months (Google).
	unused = 7 * 24 * time.Hour
	// keepAlivePause is between two of them, for the provider's sake.
	keepAlivePause = time.Second
)

// KeepAlive renews the tokens that nobody has wanted for a week, lest their providers
// end the grants. providerOf returns the provider that sessions use what is stored
// under a name with, or nil where none does. Failures are in the log.
func (k *Keeper) KeepAlive(ctx context.Context, providerOf func(name string) *Provider) error {
	names, err := k.Names(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		p := providerOf(name)
		g, err := k.Grant(ctx, name)
		if p == nil || err != nil || p.Fits(g) != nil || !g.Refused.IsZero() || time.Since(g.Issued) < unused {
			continue // what is of no use any more is told to who needs it
		}
		k.Tokens(p, name, "").Token(ctx, "")
		select {
		case <-time.After(keepAlivePause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
