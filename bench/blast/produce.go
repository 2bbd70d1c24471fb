package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

type Produce struct {
	Addr, Topic, Codec                    string
	Conns, Inflight, Acks, Batch, RecSize int
	PartsPerReq, PartsPerConn             int
	Variants, TimeoutMs, WarmReq          int
	Bytes                                 int64
	Seconds                               float64
	Rate                                  float64
}

// tmpl is one request, encoded once: pre + body + suf. Only the correlation id changes from send to send.
type tmpl struct {
	pre, body, suf []byte
	recs, raw      int
}

type pend struct {
	at   time.Time
	corr int32
	t    *tmpl
}

// encodeProduce lays the request out so that the batch itself is shared, not copied.
func encodeProduce(c *Conn, acks int16, timeoutMs int32, ps []Part, bs []Batch) (*tmpl, error) {
	req := kmsg.NewPtrProduceRequest()
	v, err := c.pick(req)
	if err != nil {
		return nil, err
	}
	req.SetVersion(v)
	req.Acks, req.TimeoutMillis = acks, timeoutMs
	t := &tmpl{}
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = ps[0].Topic, ps[0].ID
	for i, p := range ps {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = p.Num, bs[i].Bytes
		rt.Partitions = append(rt.Partitions, rp)
		t.recs += bs[i].Records
		t.raw += bs[i].Raw
	}
	req.Topics = append(req.Topics, rt)
	enc := c.fmtr.AppendRequest(nil, req, 0)
	if len(ps) == 1 {
		i := bytes.Index(enc, bs[0].Bytes)
		t.pre, t.body, t.suf = enc[:i:i], bs[0].Bytes, enc[i+len(bs[0].Bytes):]
		t.pre = append([]byte(nil), t.pre...)
		t.suf = append([]byte(nil), t.suf...)
	} else {
		t.pre = enc
	}
	return t, nil
}

func (t *tmpl) wire() int { return len(t.pre) + len(t.body) + len(t.suf) }

// sleepUntil is a nanosleep: the Go timer wheel alone is too coarse for pacing tens of microseconds.
func sleepUntil(t time.Time) {
	for {
		d := time.Until(t)
		if d <= 0 {
			return
		}
		if d > 20*time.Millisecond {
			time.Sleep(d - 10*time.Millisecond)
			continue
		}
		ts := syscall.NsecToTimespec(int64(d))
		syscall.Nanosleep(&ts, nil)
	}
}

// roomForPacers lets so many pacers sleep in the kernel: until the runtime notices, each keeps a processor of Go's, and
// with no more of those than cores the readers of this program would wait for milliseconds, which would be taken for
// the broker's latency.
func roomForPacers(n int) {
	runtime.GOMAXPROCS(max(8, runtime.NumCPU()+n))
}

func pinPacer() {
	runtime.LockOSThread()
	syscall.RawSyscall(syscall.SYS_PRCTL, 29 /* PR_SET_TIMERSLACK */, 1000, 0)
}

// readAck reads one Produce response into buf and returns its correlation id and first error code.
func (c *Conn) readAck(buf []byte, resp *kmsg.ProduceResponse, flex bool) ([]byte, int32, int16, error) {
	var sz [4]byte
	if _, err := io.ReadFull(c.br, sz[:]); err != nil {
		return buf, 0, 0, err
	}
	n := int(binary.BigEndian.Uint32(sz[:]))
	if cap(buf) < n {
		buf = make([]byte, n*2)
	}
	b := buf[:n]
	if _, err := io.ReadFull(c.br, b); err != nil {
		return buf, 0, 0, err
	}
	corr := int32(binary.BigEndian.Uint32(b))
	b = b[4:]
	if flex {
		var err error
		if b, err = skipTags(b); err != nil {
			return buf, corr, 0, err
		}
	}
	if err := resp.ReadFrom(b); err != nil {
		return buf, corr, 0, err
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if ec := resp.Topics[i].Partitions[j].ErrorCode; ec != 0 {
				return buf, corr, ec, nil
			}
		}
	}
	return buf, corr, 0, nil
}

func (o *Produce) run() (map[string]any, error) {
	cl := newCluster(o.Addr)
	ps, err := cl.ready(60*time.Second, 1, o.Topic)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewSource(7))
	batches := make([]Batch, o.Variants)
	for i := range batches {
		batches[i] = buildBatch(rng, o.Batch, o.RecSize, o.Codec)
	}
	type worker struct {
		c  *Conn
		ts []*tmpl
	}
	var ws []worker
	for leader, mine := range byLeader(ps) {
		for k := 0; k < o.Conns; k++ {
			c, err := dial(cl.Brokers[leader], 10*time.Second, 64<<10)
			if err != nil {
				return nil, err
			}
			defer c.Close()
			w := worker{c: c}
			shift := k * len(mine) / o.Conns
			all := len(mine)
			if o.PartsPerConn > 0 {
				all = min(all, o.PartsPerConn)
			}
			for i := 0; i < all; i += o.PartsPerReq {
				n := min(o.PartsPerReq, all-i)
				sel, bs := make([]Part, n), make([]Batch, n)
				for j := range sel {
					sel[j] = mine[(i+j+shift)%len(mine)]
					bs[j] = batches[(i+j+k)%len(batches)]
				}
				t, err := encodeProduce(c, int16(o.Acks), int32(o.TimeoutMs), sel, bs)
				if err != nil {
					return nil, err
				}
				w.ts = append(w.ts, t)
			}
			ws = append(ws, w)
		}
	}
	if o.Rate > 0 {
		roomForPacers(len(ws))
	}
	var cnt Counters
	var budget atomic.Int64
	budget.Store(o.Bytes)
	var wg sync.WaitGroup
	hists := make([]Hist, len(ws))
	errs := make(chan error, 2*len(ws))
	cpu0, t0 := selfCPU(), time.Now()
	var end time.Time
	if o.Seconds > 0 {
		end = t0.Add(time.Duration(o.Seconds * 1e9))
	}
	more := func(t *tmpl) bool {
		if o.Bytes > 0 && budget.Add(-int64(t.raw)) < -int64(t.raw) {
			return false
		}
		return end.IsZero() || time.Now().Before(end)
	}
	var version int16
	for wi, w := range ws {
		hists[wi] = newHist()
		sem := make(chan struct{}, o.Inflight)
		fifo := make(chan pend, o.Inflight+1)
		v, _ := w.c.pick(kmsg.NewPtrProduceRequest())
		version = v
		wg.Add(2)
		go func(h Hist) { // acks
			defer wg.Done()
			resp := kmsg.NewPtrProduceResponse()
			resp.SetVersion(v)
			var buf []byte
			for p := range fifo {
				if o.Acks != 0 {
					var corr int32
					var code int16
					var err error
					buf, corr, code, err = w.c.readAck(buf, resp, v >= 9)
					if err == nil && corr != p.corr {
						err = fmt.Errorf("ack %d where %d was due", corr, p.corr)
					}
					if err != nil {
						errs <- err
						w.c.Close()
						for range fifo {
						}
						return
					}
					if code != 0 {
						cnt.Errors.Add(1)
						cnt.LastCode.Store(int64(code))
					}
				}
				h.add(time.Since(p.at))
				cnt.Requests.Add(1)
				cnt.Records.Add(int64(p.t.recs))
				cnt.Raw.Add(int64(p.t.raw))
				cnt.Wire.Add(int64(p.t.wire()))
				<-sem
			}
		}(hists[wi])
		go func() { // sends
			defer wg.Done()
			defer close(fifo)
			if o.Rate > 0 {
				pinPacer()
			}
			const burst = 8
			pres := make([][]byte, burst)
			iov := make(net.Buffers, 0, 3*burst)
			corr, k := int32(1000), 0
			next := t0.Add(time.Duration(wi) * time.Millisecond / 7)
			pending := make([]pend, 0, burst)
			for {
				iov, pending = iov[:0], pending[:0]
				stop := false
				for len(pending) < burst {
					t := w.ts[k%len(w.ts)]
					at := time.Time{}
					if o.Rate > 0 {
						at = next
						if len(pending) > 0 && time.Now().Before(at) {
							break
						}
						sleepUntil(at)
						next = next.Add(time.Duration(float64(t.recs*len(ws)) * 1e9 / o.Rate))
					}
					if len(pending) == 0 {
						sem <- struct{}{}
					} else {
						select {
						case sem <- struct{}{}:
						default:
							if o.Rate > 0 {
								next = at // not sent: still due
							}
							goto write
						}
					}
					if !more(t) {
						<-sem
						stop = true
						break
					}
					if at.IsZero() {
						at = time.Now()
					}
					i := len(pending)
					pres[i] = append(pres[i][:0], t.pre...)
					corr++
					binary.BigEndian.PutUint32(pres[i][8:], uint32(corr))
					iov = append(iov, pres[i])
					if t.body != nil {
						iov = append(iov, t.body, t.suf)
					}
					pending = append(pending, pend{at, corr, t})
					k++
				}
			write:
				for _, p := range pending {
					fifo <- p
				}
				if len(pending) > 0 {
					out := iov
					if _, err := out.WriteTo(w.c.Conn); err != nil {
						errs <- err
						return
					}
				}
				if stop {
					return
				}
			}
		}()
	}
	wg.Wait()
	el := time.Since(t0).Seconds()
	select {
	case err := <-errs:
		return nil, err
	default:
	}
	h := newHist()
	for _, x := range hists {
		h.Merge(x.Histogram)
	}
	return map[string]any{
		"seconds": el, "mb_s": float64(cnt.Raw.Load()) / 1e6 / el, "wire_mb_s": float64(cnt.Wire.Load()) / 1e6 / el,
		"records_s": float64(cnt.Records.Load()) / el, "requests_s": float64(cnt.Requests.Load()) / el,
		"records": cnt.Records.Load(), "bytes": cnt.Raw.Load(), "wire_bytes": cnt.Wire.Load(), "requests": cnt.Requests.Load(),
		"errors": cnt.Errors.Load(), "last_error_code": cnt.LastCode.Load(), "latency": h.summary(),
		"batch_bytes": len(batches[0].Bytes), "batch_records": batches[0].Records,
		"produce_version": version, "partitions": len(ps), "client_cpu_s": selfCPU() - cpu0, "cipher": cipherName(),
	}, nil
}

// sizes says what one batch weighs on the wire under each codec.
func (o Produce) sizes() map[string]any {
	out := map[string]any{}
	for c := range codecs {
		b := buildBatch(rand.New(rand.NewSource(7)), o.Batch, o.RecSize, c)
		out[c] = map[string]any{"records": b.Records, "raw": b.Raw, "wire": len(b.Bytes)}
	}
	return out
}
