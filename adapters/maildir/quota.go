package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// quotaFile is the file of Maildir++ that sums up a Maildir with all its
// folders: a line with the limits, then lines with a size in octets and a number
// of messages, to be added up. Whoever adds or removes mail appends a line.
const quotaFile = "maildirsize"

// usage is what messages take of a quota.
type usage struct {
	octets   int64 // of the files, or as their names state it
	messages int
}

// add counts a message, as it lies in a folder that is counted. Files with the
// flag T are not: whoever set it subtracted them.
func (u *usage) add(m *message) {
	info := m.name[m.baseLen:]
	if flags, ok := strings.CutPrefix(info, ":2,"); ok && strings.ContainsRune(flags, 'T') {
		return
	}
	octets, ok := statedSize(m.base())
	if !ok {
		octets = m.file.size
	}
	u.octets += octets
	u.messages++
}

// subtract appends to the quota file, if there is one, that these were removed.
// A failure is logged and no more: the file is an estimate that delivery agents
// compute anew when it says that the quota is reached.
func (d *maildrop) subtract(u usage) {
	if u.messages == 0 || d.folder.trash {
		return
	}
	if err := d.folder.appendQuota(fmt.Sprintf("%d %d\n", -u.octets, -u.messages)); err != nil {
		d.log.Warn("the quota file was not brought up to date; remove it to have it computed anew",
			"file", quotaFile, "error", err)
	}
}

// appendQuota appends a line in a single write, as others do at the same time.
func (f *folder) appendQuota(line string) error {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(f.top, quotaFile,
			unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	st, err := fstat(fd)
	if err != nil {
		return err
	}
	if !isRegular(&st) {
		return errNotRegular
	}
	n, err := unix.Write(fd, []byte(line))
	if err == nil && n < len(line) {
		err = errors.New("short write")
	}
	return err
}
