package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
)

// The frames of PROTOCOL.md, and the limits that the agent checks.
const (
	protocolVersion = 1
	headerSize      = 9
	maxData         = 262144  // payload of DATA and STDIN
	maxRequest      = 8 << 20 // payload of START, FILE and HELLO from the client
	maxSmall        = 1 << 16 // payload of any other frame
	maxMessage      = 4096    // bytes of a message in ERROR and FATAL
	maxOperations   = 65536   // open at once on a connection
	maxConnections  = 64
)

const (
	kindHello    byte = 0x01
	kindStart    byte = 0x02
	kindStdin    byte = 0x03
	kindStdinEOF byte = 0x04
	kindCredit   byte = 0x05
	kindSignal   byte = 0x06
	kindResize   byte = 0x07
	kindPing     byte = 0x08
	kindFile     byte = 0x09
	kindCancel   byte = 0x0A
	kindAttach   byte = 0x0B
	kindList     byte = 0x0C
	kindForget   byte = 0x0D
	kindForward  byte = 0x0E

	kindAgentHello  byte = 0x81
	kindStarted     byte = 0x82
	kindData        byte = 0x83
	kindInputCredit byte = 0x84
	kindExited      byte = 0x85
	kindError       byte = 0x86
	kindEnd         byte = 0x87
	kindFatal       byte = 0x88
	kindPong        byte = 0x89
	kindGap         byte = 0x8A
)

// payloadSizes holds the smallest and largest payload of each frame that a client may send.
var payloadSizes = [...][2]uint32{
	kindHello:    {2, maxRequest},
	kindStart:    {2, maxRequest},
	kindStdin:    {0, maxData},
	kindStdinEOF: {0, 0},
	kindCredit:   {5, 5},
	kindSignal:   {2, 2},
	kindResize:   {4, 4},
	kindPing:     {8, 8},
	kindFile:     {2, maxRequest},
	kindCancel:   {0, 0},
	kindAttach:   {2, maxSmall},
	kindList:     {2, maxSmall},
	kindForget:   {2, maxSmall},
	kindForward:  {2, maxSmall},
}

// A violation is a frame that no correct client sends; it ends the connection.
type violation string

func (v violation) Error() string { return string(v) }

type frame struct {
	kind    byte
	id      uint32
	payload []byte // valid until the next frame is read
}

type frameReader struct {
	in      *bufio.Reader
	header  [headerSize]byte
	scratch []byte
}

// next reads one frame. The length is checked before anything is allocated for it.
func (r *frameReader) next() (frame, error) {
	if _, err := io.ReadFull(r.in, r.header[:]); err != nil {
		return frame{}, err
	}
	size := binary.BigEndian.Uint32(r.header[:])
	f := frame{kind: r.header[4], id: binary.BigEndian.Uint32(r.header[5:])}
	if f.kind == 0 || int(f.kind) >= len(payloadSizes) {
		return f, violation("unknown frame type")
	}
	if limits := payloadSizes[f.kind]; size < limits[0] || size > limits[1] {
		return f, violation("payload of a wrong size")
	}
	connectionItself := f.kind == kindHello || f.kind == kindPing
	if (f.id == 0) != connectionItself && f.kind != kindCredit {
		return f, violation("frame with a wrong id")
	}
	err := r.read(&f, int(size))
	return f, err
}

func (r *frameReader) read(f *frame, size int) error {
	if size > maxData {
		// Grows with what arrives: a length alone costs the sender as much as it costs the agent.
		var large bytes.Buffer
		_, err := io.CopyN(&large, r.in, int64(size))
		f.payload = large.Bytes()
		return err
	}
	if cap(r.scratch) < size {
		r.scratch = make([]byte, max(4096, size))
	}
	f.payload = r.scratch[:size]
	_, err := io.ReadFull(r.in, f.payload)
	return err
}

// appendHeader adds the header of a frame whose payload has size bytes.
func appendHeader(to []byte, kind byte, id uint32, size int) []byte {
	to = binary.BigEndian.AppendUint32(to, uint32(size))
	to = append(to, kind)
	return binary.BigEndian.AppendUint32(to, id)
}

func appendFrame(to []byte, kind byte, id uint32, payload []byte) []byte {
	return append(appendHeader(to, kind, id, len(payload)), payload...)
}
