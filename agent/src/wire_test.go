package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFramesArriveInPieces(t *testing.T) {
	stream := appendFrame(nil, kindHello, 0, []byte("{}"))
	stream = appendFrame(stream, kindStdin, 5, bytes.Repeat([]byte("x"), maxData))
	stream = appendFrame(stream, kindStart, 6, bytes.Repeat([]byte("y"), 300000))
	stream = appendFrame(stream, kindStdinEOF, 5, nil)
	r := frameReader{in: bufio.NewReader(iotest.HalfReader(bytes.NewReader(stream)))}
	for i, want := range []frame{{kindHello, 0, make([]byte, 2)}, {kindStdin, 5, make([]byte, maxData)},
		{kindStart, 6, make([]byte, 300000)}, {kindStdinEOF, 5, nil}} {
		got, err := r.next()
		if err != nil || got.kind != want.kind || got.id != want.id || len(got.payload) != len(want.payload) {
			t.Fatal(i, err, got.kind, got.id, len(got.payload))
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(nil, kindHello, 0, []byte(`{"protocol":1}`)))
	f.Add(appendFrame(appendFrame(nil, kindStdin, 1, []byte("abc")), kindCredit, 0, make([]byte, 5)))
	f.Add([]byte{0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := frameReader{in: bufio.NewReaderSize(bytes.NewReader(stream), 16)}
		var again []byte
		for {
			frame, err := r.next()
			if err != nil {
				break
			}
			if len(frame.payload) > len(stream) {
				t.Fatal("more came out than went in")
			}
			again = appendFrame(again, frame.kind, frame.id, frame.payload)
		}
		if !bytes.HasPrefix(stream, again) {
			t.Fatal("what was read is not what was sent")
		}
		if cap(r.scratch) > max(4096, maxData) {
			t.Fatal("allocated too much")
		}
	})
}

func FuzzStart(f *testing.F) {
	f.Add([]byte(`{"argv":["a","\u00ff"],"env":["K=V"],"cwd":"/","user":{"uid":1,"gid":2,"groups":[3]},"timeout":1.5}`))
	f.Add([]byte(`{"op":"write","path":"/a","mode":420,"user":{"name":"x"},"to":"/b","credit":[1,2]}`))
	f.Add([]byte(`{"argv":["a"],"tty":{"rows":1,"cols":2,"term":"x"},"rlimits":{"nofile":[1,-1]},"umask":0}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) < 2 {
			return
		}
		if request, spec, failed := decodeStart(payload); failed == nil {
			for _, s := range append(append([]string{spec.Cwd}, spec.Argv...), spec.Env...) {
				if strings.ContainsRune(s, 0) {
					t.Fatal("NUL came through")
				}
			}
			if len(spec.Argv) == 0 || request.Timeout != nil && seconds(*request.Timeout) < 0 || seconds(request.Grace) < 0 {
				t.Fatal(spec, request)
			}
		} else if failed.Code != "invalid" {
			t.Fatal(failed)
		}
		if request, failed := decodeFile(payload); failed == nil {
			if !strings.HasPrefix(string(request.Path), "/") || strings.ContainsRune(string(request.Path+request.To), 0) {
				t.Fatal(request)
			}
		} else if failed.Code != "invalid" {
			t.Fatal(failed)
		}
	})
}

func FuzzByteString(f *testing.F) {
	f.Add("plain")
	f.Add("\xff\x80\"\\\n\x7f")
	f.Fuzz(func(t *testing.T, value string) {
		text := appendByteString(nil, value)
		var back byteString
		err := json.Unmarshal(text, &back)
		if strings.ContainsRune(value, 0) {
			if err == nil {
				t.Fatal("NUL was accepted")
			}
		} else if err != nil || string(back) != value {
			t.Fatalf("%q %q %v", value, back, err)
		}
	})
}

func TestFailureIsBounded(t *testing.T) {
	payload := failureJSON(&Failure{Code: "io", Message: strings.Repeat("\xff\x01", 100000), Errno: 5})
	if len(payload) > 65536 || !json.Valid(payload) {
		t.Error(len(payload))
	}
}
