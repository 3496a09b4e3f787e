package gateway

import "net"

// recordWriter is what a tls.Conn writes to. Once gather is set the records that
// the tls.Conn makes of a write, of 16 KB at most, leave together.
type recordWriter struct {
	net.Conn
	gather  bool
	pending []byte // in one of writeBuffers; nil when there is none
	err     error  // of a write; sticky, as records behind lost ones are worth nothing
}

func (w *recordWriter) Write(p []byte) (int, error) {
	if !w.gather {
		w.flush()
		return w.send(p)
	}
	if len(w.pending)+len(p) > writeBufferSize && w.flush() != nil {
		return 0, w.err
	}
	if w.pending == nil {
		w.pending = writeBuffers.Get().(*[writeBufferSize]byte)[:0]
	}
	w.pending = append(w.pending, p...)
	return len(p), nil
}

// flush sends what is pending.
func (w *recordWriter) flush() error {
	if w.pending != nil {
		w.send(w.pending)
		writeBuffers.Put((*[writeBufferSize]byte)(w.pending[:writeBufferSize]))
		w.pending = nil
	}
	return w.err
}

func (w *recordWriter) send(p []byte) (n int, err error) {
	if w.err == nil {
		n, w.err = w.Conn.Write(p)
	}
	return n, w.err
}
