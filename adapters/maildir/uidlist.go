package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"pop3gw/gateway"
)

// numbers are what a file in the folder says of messages: Dovecot's or Courier's.
type numbers struct {
	validity uint32
	byBase   map[string]number
}

// number is what such a file says of one message.
type number struct {
	uid, validity uint32
	order         uint32 // field O of Dovecot; 0 for none
	pop3          string // field P of Dovecot; "" for none
	byName        bool   // its unique-id is the file name, whatever the form
	guid          string // field G of Dovecot
}

const (
	uidlistName  = "dovecot-uidlist"
	sizelistName = "courierpop3dsizelist"

	maxNumbersFile = 512 << 20 // octets
)

var errNumbers = errors.New("is damaged, or of a version that is not known")

// fileVersion tells two states of a file apart. The zero value is of no file.
type fileVersion struct {
	dev, inode    uint64
	size          int64
	modified, set int64
}

func versionOf(st *unix.Stat_t) fileVersion {
	return fileVersion{uint64(st.Dev), uint64(st.Ino), st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

// readNumbers reads the file called name in the folder, which need not be there.
// The error is for the client.
func (f *folder) readNumbers(name string, parse func(text []byte) (*numbers, error)) (*numbers, error) {
	unusable := func(err error) error {
		return gateway.Unusable("the list of unique-ids of this maildrop cannot be read", fmt.Errorf(
			"%s/%s: %w; let the program that it is of repair it (doveadm force-resync for Dovecot), and the gateway's user (uid %d) read it, or set another uidl",
			f.path, name, err, os.Geteuid()))
	}
	fd, err := openat(f.dir, name, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unusable(err)
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, unusable(err)
	case !info.Mode().IsRegular():
		return nil, unusable(errNotRegular)
	case info.Size() > maxNumbersFile:
		return nil, unusable(fmt.Errorf("it has %d octets; the most is %d", info.Size(), maxNumbersFile))
	}
	text, err := io.ReadAll(io.LimitReader(file, maxNumbersFile))
	if err != nil {
		return nil, unusable(err)
	}
	n, err := parse(text)
	if err != nil {
		return nil, unusable(err)
	}
	return n, nil
}

// lines calls fn with each line that has an end: another program may be writing.
func lines(text []byte, fn func(line string) error) error {
	for {
		line, rest, found := bytes.Cut(text, []byte("\n"))
		if !found {
			return nil
		}
		text = rest
		if err := fn(string(line)); err != nil {
			return err
		}
	}
}

func number32(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// parseUidlist reads a dovecot-uidlist: in version 3 "3 V1275660208 N25022 G..." and
// then "25006 W2481 P... :file name", in version 1 "1 1275660208 25022" and "25006
// file name".
func parseUidlist(text []byte) (*numbers, error) {
	n := &numbers{byBase: make(map[string]number)}
	version := ""
	err := lines(text, func(line string) error {
		if version == "" {
			fields := strings.Fields(line)
			if len(fields) < 2 {
				return errNumbers
			}
			version = fields[0]
			ok := false
			switch version {
			case "1":
				n.validity, ok = number32(fields[1])
			case "3":
				for _, field := range fields[1:] {
					if field[0] == 'V' {
						n.validity, ok = number32(field[1:])
					}
				}
			}
			if !ok || n.validity == 0 {
				return errNumbers
			}
			return nil
		}
		return n.addUidlistLine(line, version)
	})
	if err == nil && version == "" {
		err = errNumbers
	}
	return n, err
}

func (n *numbers) addUidlistLine(line, version string) error {
	digits, rest, ok := strings.Cut(line, " ")
	uid, isNumber := number32(digits)
	if !ok || !isNumber || uid == 0 {
		return errNumbers
	}
	m := number{uid: uid, validity: n.validity}
	name := rest
	if version == "3" {
		fields, after, ok := strings.Cut(" "+rest, " :")
		if !ok {
			return errNumbers
		}
		name = after
		for _, field := range strings.Fields(fields) {
			switch value := field[1:]; field[0] {
			case 'P':
				m.pop3, m.byName = value, value == ""
			case 'O':
				m.order, _ = number32(value)
			case 'G':
				m.guid = value
			}
		}
	}
	// A file that is twice there was renamed: the later line is of a copy.
	base := baseName(name)
	if _, ok := n.byBase[base]; !ok {
		n.byBase[base] = m
	}
	return nil
}

// parseSizelist reads a courierpop3dsizelist: "/3 next uidv", and then "file name
// size n:uidv:utf8".
func parseSizelist(text []byte) (*numbers, error) {
	n := &numbers{byBase: make(map[string]number)}
	begun := false
	err := lines(text, func(line string) error {
		fields := strings.Fields(line)
		if !begun {
			if len(fields) < 3 || fields[0] != "/2" && fields[0] != "/3" {
				return errNumbers
			}
			var ok bool
			if n.validity, ok = number32(fields[2]); !ok {
				return errNumbers
			}
			begun = true
			return nil
		}
		if len(fields) < 3 {
			return errNumbers
		}
		id := fields[len(fields)-1]
		name := strings.Join(fields[:len(fields)-2], " ")
		parts := strings.Split(id, ":")
		uid, ok := number32(parts[0])
		if !ok {
			return errNumbers
		}
		m := number{uid: uid, byName: uid == 0}
		if len(parts) > 1 {
			if m.validity, ok = number32(parts[1]); !ok {
				return errNumbers
			}
		}
		n.byBase[baseName(name)] = m
		return nil
	})
	if err == nil && !begun {
		err = errNumbers
	}
	return n, err
}

// appendCourierName appends a file name as Courier writes it in unique-ids.
func appendCourierName(dst []byte, base string) []byte {
	for i := range len(base) {
		switch c := base[i]; {
		case c < 0x21, c > 0x7e, c == '\'', c == '"', c == '+':
			dst = fmt.Appendf(dst, "+%02X", c)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
