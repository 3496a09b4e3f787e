package maildir

import (
	"bufio"
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

// numbers are what a file in the folder says of messages: Dovecot's or Courier's. What
// it says of others is passed over.
type numbers struct {
	version  string // of the file; "" before its first line
	validity uint32
	index    map[string]int32 // messages by base name
	of       []number         // by message; zero for one that is not in the file
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

	maxNumbersFile = 256 << 20 // octets
	maxNumbersLine = 64 << 10
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

// parser takes one line of a file.
type parser func(n *numbers, line string) error

// readNumbers reads the file called name in the folder, which need not be there: then
// it returns nil. The error is for the client.
func (d *maildrop) readNumbers(name string, parse parser) (*numbers, error) {
	unusable := func(err error) error {
		return gateway.Unusable("the list of unique-ids of this maildrop cannot be read", fmt.Errorf(
			"%s/%s: %w; let the program that it is of repair it (doveadm force-resync for Dovecot), and the gateway's user (uid %d) read it, or set another uidl",
			d.folder.path, name, err, os.Geteuid()))
	}
	fd, err := openat(d.folder.dir, name, 0)
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
	n := &numbers{index: make(map[string]int32, d.Len()), of: make([]number, d.Len())}
	for i := range d.Len() {
		if m := d.view(i); !m.duplicate { // the file before it has the number
			n.index[strings.Clone(m.base())] = int32(i)
		}
	}
	if err := n.read(io.LimitReader(file, maxNumbersFile), parse); err != nil {
		return nil, unusable(err)
	}
	return n, nil
}

// read parses each line that has an end: another program may be writing.
func (n *numbers) read(r io.Reader, parse parser) error {
	lines := bufio.NewReaderSize(r, maxNumbersLine)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case err == io.EOF && n.version == "", err == bufio.ErrBufferFull:
			return errNumbers
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := parse(n, string(line[:len(line)-1])); err != nil {
			return err
		}
	}
}

func number32(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// parseUidlist takes a line of a dovecot-uidlist: in version 3 "3 V1275660208 N25022
// G..." and then "25006 W2481 P... :file name", in version 1 "1 1275660208 25022" and
// "25006 file name".
func parseUidlist(n *numbers, line string) error {
	if n.version == "" {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return errNumbers
		}
		n.version = fields[0]
		ok := false
		switch n.version {
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
	digits, rest, ok := strings.Cut(line, " ")
	uid, isNumber := number32(digits)
	if !ok || !isNumber || uid == 0 {
		return errNumbers
	}
	fields, name := "", rest
	if n.version == "3" {
		if fields, name, ok = strings.Cut(" "+rest, " :"); !ok {
			return errNumbers
		}
	}
	// A file that is twice there was renamed: the later line is of a copy.
	i, ok := n.index[baseName(name)]
	if !ok || n.of[i] != (number{}) {
		return nil
	}
	m := &n.of[i]
	m.uid, m.validity = uid, n.validity
	for _, field := range strings.Fields(fields) {
		switch value := field[1:]; field[0] {
		case 'P':
			m.pop3, m.byName = strings.Clone(value), value == ""
		case 'O':
			m.order, _ = number32(value)
		case 'G':
			m.guid = strings.Clone(value)
		}
	}
	return nil
}

// parseSizelist takes a line of a courierpop3dsizelist: "/3 next uidv", and then "file
// name size n:uidv:utf8".
func parseSizelist(n *numbers, line string) error {
	fields := strings.Fields(line)
	if len(fields) < 3 {
		return errNumbers
	}
	if n.version == "" {
		n.version = fields[0]
		var ok bool
		if n.validity, ok = number32(fields[2]); !ok || n.version != "/2" && n.version != "/3" {
			return errNumbers
		}
		return nil
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
	if i, ok := n.index[baseName(name)]; ok {
		n.of[i] = m
	}
	return nil
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
