// A rival in `cargo xtask bench echo`, which builds it: a goroutine for each connection.
package main

import (
	"fmt"
	"net"
	"os"
)

func serve(connection *net.TCPConn) {
	defer connection.Close()
	buffer := make([]byte, 16*1024)
	for {
		length, err := connection.Read(buffer)
		if length > 0 {
			// Goes on after short writes.
			if _, err := connection.Write(buffer[:length]); err != nil {
				return
			}
		}
		if err != nil {
			connection.CloseWrite() // its own end of the stream; the client may have ended first
			return
		}
	}
}

func main() {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
	fmt.Println("listening on", listener.Addr())
	for {
		connection, err := listener.AcceptTCP()
		if err != nil {
			continue // the client has gone already
		}
		go serve(connection)
	}
}
