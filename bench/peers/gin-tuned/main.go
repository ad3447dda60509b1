// Gin as fast as its own ideas go: no logger, one encoded frame per event that all clients share and
// that goes back to a pool, long buffered channels, and one write and one flush for all the frames
// that wait for a client.
package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gin-gonic/gin"
)

// Events a client may be behind before the publisher waits for it.
const buffered = 256

// frame is one event as bytes, given back to the pool by the last of its holders.
type frame struct {
	bytes   []byte
	holders int64
}

var frames = sync.Pool{New: func() any { return &frame{bytes: make([]byte, 0, 512)} }}

func (f *frame) release() {
	if atomic.AddInt64(&f.holders, -1) == 0 {
		frames.Put(f)
	}
}

func encode(id int, data string) *frame {
	f := frames.Get().(*frame)
	b := append(f.bytes[:0], "id: "...)
	b = strconv.AppendInt(b, int64(id), 10)
	for _, line := range strings.Split(data, "\n") {
		b = append(append(b, "\ndata: "...), line...)
	}
	f.bytes = append(b, "\n\n"...)
	return f
}

type client struct {
	frames chan *frame
	gone   <-chan struct{}
}

// A topic's clients stand in a slice: the hub walks it for every event, and changes it rarely.
type hub struct {
	lock   sync.Mutex
	topics map[string][]*client
	lastID int
}

func (h *hub) join(topic string, c *client) {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.topics[topic] = append(h.topics[topic], c)
}

func (h *hub) leave(topic string, c *client) {
	h.lock.Lock()
	defer h.lock.Unlock()
	all := h.topics[topic]
	for i := range all {
		if all[i] == c {
			last := len(all) - 1
			all[i], all[last] = all[last], nil
			h.topics[topic] = all[:last]
			break
		}
	}
	if len(h.topics[topic]) == 0 {
		delete(h.topics, topic)
	}
}

func (h *hub) publish(topic, data string) {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.lastID++
	f := encode(h.lastID, data)
	all := h.topics[topic]
	// One more than there are clients, so that none of them gives it back before all have it.
	atomic.StoreInt64(&f.holders, int64(len(all))+1)
	for _, c := range all {
		select {
		case c.frames <- f:
		case <-c.gone:
			f.release()
		}
	}
	f.release()
}

func (h *hub) subscribe(c *gin.Context) {
	me := &client{make(chan *frame, buffered), c.Request.Context().Done()}
	topic := c.Query("topic")
	h.join(topic, me)
	defer h.leave(topic, me)
	c.Header("Content-Type", "text/event-stream")
	c.Header("Cache-Control", "no-cache")
	io.WriteString(c.Writer, ":\n\n")
	c.Writer.Flush()
	for {
		select {
		case f := <-me.frames:
			if !send(c.Writer, me, f) {
				return
			}
		case <-me.gone:
			return
		}
	}
}

// send writes the first frame and all that wait behind it, then flushes once.
func send(w gin.ResponseWriter, me *client, f *frame) bool {
	for {
		_, err := w.Write(f.bytes)
		f.release()
		if err != nil {
			return false
		}
		select {
		case f = <-me.frames:
		default:
			w.Flush()
			return true
		}
	}
}

func (h *hub) post(c *gin.Context) {
	data, err := io.ReadAll(c.Request.Body)
	if err != nil {
		c.Status(http.StatusBadRequest)
		return
	}
	h.publish(c.Query("topic"), string(data))
	c.Status(http.StatusOK)
}

func main() {
	gin.SetMode(gin.ReleaseMode)
	h := &hub{topics: map[string][]*client{}}
	router := gin.New()
	router.Use(gin.Recovery())
	router.GET("/sub", h.subscribe)
	router.POST("/pub", h.post)
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, router))
}
