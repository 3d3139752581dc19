package main

import (
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// byteString is a value of arbitrary bytes but NUL. In JSON each byte is one character, U+0001 to U+00FF,
// so that names and arguments travel exactly whatever their encoding.
type byteString string

var errByteString = errors.New("not a byte string without NUL")

func (b *byteString) UnmarshalJSON(text []byte) error {
	if string(text) == "null" { // as encoding/json does for every other type: null leaves the default
		return nil
	}
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	value, ok := latin1(s)
	if !ok {
		return errByteString
	}
	*b = byteString(value)
	return nil
}

// latin1 turns each character of s into one byte.
func latin1(s string) (string, bool) {
	ascii := true
	for i := 0; i < len(s); i++ {
		if s[i] == 0 {
			return "", false
		}
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	if ascii {
		return s, true
	}
	value := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xFF {
			return "", false
		}
		value = append(value, byte(r))
	}
	return string(value), true
}

func plain(values []byteString) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = string(v)
	}
	return list
}

// appendByteString adds value as a JSON string.
func appendByteString(to []byte, value string) []byte {
	const hex = "0123456789abcdef"
	to = append(to, '"')
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"' || c == '\\':
			to = append(to, '\\', c)
		case c < 0x20 || c == 0x7F:
			to = append(to, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			to = utf8.AppendRune(to, rune(c))
		}
	}
	return append(to, '"')
}

// failureJSON is the payload of ERROR and FATAL.
func failureJSON(f *Failure) []byte {
	message := f.Message
	if len(message) > maxMessage {
		message = message[:maxMessage]
	}
	// Marshal replaces what is no UTF-8, which can make the text longer, but by a bounded factor.
	payload, _ := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Errno   int    `json:"errno"`
	}{f.Code, message, f.Errno})
	return payload
}
