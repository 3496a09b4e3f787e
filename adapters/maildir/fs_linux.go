package maildir

import (
	"bytes"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// local are the types of file systems whose directories bear a new time whenever
// a name in them is added, removed or changed. Of one whose directories others
// change, as with NFS, a client may not see that for a while.
var local = []int64{
	unix.EXT4_SUPER_MAGIC, // and ext2, ext3
	unix.XFS_SUPER_MAGIC,
	unix.BTRFS_SUPER_MAGIC,
	unix.F2FS_SUPER_MAGIC,
	unix.REISERFS_SUPER_MAGIC,
	unix.TMPFS_MAGIC,
	unix.RAMFS_MAGIC,
	unix.OVERLAYFS_SUPER_MAGIC,
	0x2fc12fc1, // ZFS
	0x3153464a, // JFS
	0xca451a4e, // bcachefs
}

// isLocal reports whether the directory's time tells of every change.
func isLocal(fd int) bool {
	var st unix.Statfs_t
	err := retry(func() error { return unix.Fstatfs(fd, &st) })
	return err == nil && slices.Contains(local, int64(uint32(st.Type)))
}

// openBeneath opens the directory below root. Whatever is on the way, the system
// does not leave root, or fails.
func openBeneath(root, below string) (fd int, err error) {
	parent, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return noDir, err
	}
	defer unix.Close(parent)
	return unix.Openat2(parent, below, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// direntName is where the name begins in a record of getdents64(2): inode and
// offset of 8 octets, length of 2, type of 1.
const direntName = 19

// readDir calls see with names in the directory and their inodes, and returns
// false behind the last. buf is scratch.
func readDir(fd int, buf []byte, see func(name string, inode uint64)) (more bool, err error) {
	var n int
	err = retry(func() error {
		n, err = unix.Getdents(fd, buf)
		return err
	})
	if err != nil || n == 0 {
		return false, err
	}
	names := string(buf[:n]) // one allocation for all
	for at := 0; at+direntName <= n; {
		length := int(binary.NativeEndian.Uint16(buf[at+16:]))
		if length < direntName || at+length > n {
			return false, unix.EIO
		}
		start, end := at+direntName, at+length
		if i := bytes.IndexByte(buf[start:end], 0); i >= 0 {
			end = start + i
		}
		if inode := binary.NativeEndian.Uint64(buf[at:]); inode != 0 && end > start {
			see(names[start:end], inode)
		}
		at += length
	}
	return true, nil
}

// renameNew renames a file, in one step. It fails with EEXIST where something has
// the new name, and with EINVAL or ENOSYS where that cannot be made sure.
func renameNew(from int, name string, to int, newName string) error {
	return unix.Renameat2(from, name, to, newName, unix.RENAME_NOREPLACE)
}
