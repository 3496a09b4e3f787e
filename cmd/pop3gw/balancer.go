package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// proxyFrom is proxy_protocol_from, which was checked.
func (l listenerConfig) proxyFrom() []netip.Prefix {
	var blocks []netip.Prefix
	for _, text := range l.ProxyProtocolFrom {
		block, err := parseBlock(text)
		if err == nil {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

// parseBlock reads an address, or a block of them as "10.0.0.0/8".
func parseBlock(text string) (netip.Prefix, error) {
	wrong := fmt.Errorf(`found %q; wanted are addresses such as "192.0.2.10", or blocks such as "10.0.0.0/8" and "2001:db8::/32"`, text)
	block, err := netip.ParsePrefix(text)
	if !strings.Contains(text, "/") {
		addr, addrErr := netip.ParseAddr(text)
		block, err = netip.PrefixFrom(addr, addr.BitLen()), addrErr
	}
	if err != nil || block.Addr().Zone() != "" || block.Addr().Is4In6() {
		return netip.Prefix{}, wrong
	}
	return block.Masked(), nil
}

func contains(blocks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(blocks, func(b netip.Prefix) bool { return b.Contains(addr) })
}
