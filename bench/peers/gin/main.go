// The article's design on Gin: a hub whose one goroutine owns the set of clients, a buffered channel
// per client, a handler that streams from its channel and flushes after every event, and Gin's
// default middleware (logger and recovery).
package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"

	"github.com/gin-contrib/sse"
	"github.com/gin-gonic/gin"
)

// Events a client may be behind before the hub waits for it.
const buffered = 10

type event struct {
	topic string
	id    string
	data  string
}

type client struct {
	topic  string
	events chan event
	gone   <-chan struct{}
}

type hub struct {
	join    chan *client
	leave   chan *client
	publish chan event
}

func (h *hub) run() {
	topics := map[string]map[*client]bool{}
	lastID := 0
	for {
		select {
		case c := <-h.join:
			if topics[c.topic] == nil {
				topics[c.topic] = map[*client]bool{}
			}
			topics[c.topic][c] = true
		case c := <-h.leave:
			delete(topics[c.topic], c)
			if len(topics[c.topic]) == 0 {
				delete(topics, c.topic)
			}
		case e := <-h.publish:
			lastID++
			e.id = strconv.Itoa(lastID)
			for c := range topics[e.topic] {
				// A full channel makes the hub wait, so nothing is lost.
				select {
				case c.events <- e:
				case <-c.gone:
				}
			}
		}
	}
}

func (h *hub) subscribe(c *gin.Context) {
	me := &client{c.Query("topic"), make(chan event, buffered), c.Request.Context().Done()}
	h.join <- me
	defer func() { h.leave <- me }()
	c.Header("Content-Type", "text/event-stream")
	c.Header("Cache-Control", "no-cache")
	// The head leaves at once, as with every other server.
	io.WriteString(c.Writer, ":\n\n")
	c.Writer.Flush()
	c.Stream(func(w io.Writer) bool {
		select {
		case e := <-me.events:
			c.Render(-1, sse.Event{Id: e.id, Data: e.data})
			return true
		case <-me.gone:
			return false
		}
	})
}

func (h *hub) post(c *gin.Context) {
	data, err := io.ReadAll(c.Request.Body)
	if err != nil {
		c.Status(http.StatusBadRequest)
		return
	}
	h.publish <- event{topic: c.Query("topic"), data: string(data)}
	c.Status(http.StatusOK)
}

func main() {
	gin.SetMode(gin.ReleaseMode)
	h := &hub{make(chan *client), make(chan *client), make(chan event)}
	go h.run()
	router := gin.Default()
	router.GET("/sub", h.subscribe)
	router.POST("/pub", h.post)
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, router))
}
