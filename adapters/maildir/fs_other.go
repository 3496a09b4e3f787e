//go:build !linux

package maildir

import "golang.org/x/sys/unix"

// isLocal reports whether the directory's time tells of every change: that is
// known for Linux alone.
func isLocal(fd int) bool { return false }

// openBeneath is for Linux alone.
func openBeneath(root, below string) (fd int, err error) { return noDir, unix.ENOSYS }

// readDir calls see with names in the directory, and returns false behind the
// last. Inodes are 0: not known. buf is scratch.
func readDir(fd int, buf []byte, see func(name string, inode uint64)) (more bool, err error) {
	var n int
	err = retry(func() error {
		n, err = unix.ReadDirent(fd, buf)
		return err
	})
	if err != nil || n == 0 {
		return false, err
	}
	_, _, names := unix.ParseDirent(buf[:n], -1, nil)
	for _, name := range names {
		see(name, 0)
	}
	return true, nil
}

// renameNew is for Linux alone.
func renameNew(from int, name string, to int, newName string) error { return unix.ENOSYS }
