package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// stamp is the version, set by -ldflags "-X main.stamp=...".
var stamp string

// version is the stamp, else what the build recorded.
func version() string {
	if stamp != "" {
		return stamp
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		Run: func(cmd *cobra.Command, args []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "pop3gw %s\n", version())
		},
	}
}
