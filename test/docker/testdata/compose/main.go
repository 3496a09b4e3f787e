// Command compose reads Compose files as "docker compose" does, with the library that
// it reads them with, and prints the services of each. It is a module of its own:
// pop3gw needs none of this.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	for _, file := range os.Args[1:] {
		o, err := cli.NewProjectOptions([]string{file}, cli.WithOsEnv, cli.WithName("pop3gw"))
		if err == nil {
			p, e := o.LoadProject(context.Background())
			if err = e; err == nil {
				fmt.Println(file, p.ServiceNames())
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, file, err)
			os.Exit(1)
		}
	}
}
