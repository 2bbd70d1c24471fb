package main

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// E2E sends at a fixed rate with linger 0 (whatever is due goes out at once, while fewer than Inflight requests are open)
// and tails with Consumers independent readers. Each value starts with the instant at which it was due, so both latencies
// count the time a record waited to be sent (no coordinated omission).
type E2E struct {
	Addr, Topic                              string
	Rate, Seconds, Warm                      float64
	Conns, Inflight, Acks, RecSize, MaxBatch int
	Consumers, ConsumerConns                 int
	CatchTopic                               string
}

func putBatch(b []byte, recSize int, body []byte, due []int64, pad []byte) []byte {
	b = b[:batchHeader]
	for i, d := range due {
		v := body[:0]
		v = binary.BigEndian.AppendUint64(v, uint64(d))
		v = append(v, pad[:recSize-8]...)
		b = appendRecord(b, i, v)
	}
	seal(b, 0, len(due), time.Now().UnixMilli())
	return b
}

// eachValue walks the records of an uncompressed batch.
func eachValue(b []byte, fn func(v []byte)) {
	n := int(binary.BigEndian.Uint32(b[57:]))
	b = b[batchHeader:]
	for ; n > 0; n-- {
		l, k := binary.Varint(b)
		r := b[k : k+int(l)]
		b = b[k+int(l):]
		r = r[1:]
		for range 2 {
			_, k = binary.Varint(r)
			r = r[k:]
		}
		kl, k := binary.Varint(r)
		r = r[k:]
		if kl > 0 {
			r = r[kl:]
		}
		vl, k := binary.Varint(r)
		fn(r[k : k+int(vl)])
	}
}

func (o *E2E) run() (map[string]any, error) {
	cl := newCluster(o.Addr)
	ps, err := cl.ready(60*time.Second, 1, o.Topic)
	if err != nil {
		return nil, err
	}
	ends, err := cl.offsets(ps, -1)
	if err != nil {
		return nil, err
	}
	epoch := time.Now()
	measureFrom := int64(o.Warm * 1e9)
	stopAt := int64((o.Warm + o.Seconds) * 1e9)
	var got, sent, acked, errs, lastCode, gaps, fetchErrs atomic.Int64
	var failed atomic.Pointer[error]
	fail := func(err error) { failed.CompareAndSwap(nil, &err) }
	var mu sync.Mutex
	e2e, ack := newHist(), newHist()
	var producersDone atomic.Bool
	var cwg, pwg sync.WaitGroup
	fo := &Fetch{MaxBytes: 50 << 20, PartBytes: 1 << 20, MaxWait: 500, MinBytes: 1}
	for k := 0; k < o.Consumers; k++ {
		for leader, mine := range byLeader(ps) {
			n := min(o.ConsumerConns, len(mine))
			for j := 0; j < n; j++ {
				var sel []*fpart
				for i := j; i < len(mine); i += n {
					sel = append(sel, &fpart{mine[i], ends[mine[i].Num], -1})
				}
				f, err := newFetcher(cl.Brokers[leader], fo, sel)
				if err != nil {
					return nil, err
				}
				defer f.c.Close()
				h := newHist()
				f.onBatch = func(p *fpart, b []byte) {
					now := int64(time.Since(epoch))
					cnt := int64(0)
					eachValue(b, func(v []byte) {
						due := int64(binary.BigEndian.Uint64(v))
						if due >= measureFrom {
							h.add(time.Duration(now - due))
						}
						cnt++
					})
					got.Add(cnt)
				}
				cwg.Add(1)
				go func() {
					defer cwg.Done()
					defer func() {
						gaps.Add(f.gaps)
						fetchErrs.Add(f.errcodes)
						mu.Lock()
						e2e.Merge(h.Histogram)
						mu.Unlock()
					}()
					var grace time.Time
					for failed.Load() == nil {
						if err := f.once(); err != nil {
							fail(err)
							return
						}
						if producersDone.Load() {
							if got.Load() >= sent.Load()*int64(o.Consumers) {
								return
							}
							if grace.IsZero() {
								grace = time.Now().Add(10 * time.Second)
							} else if time.Now().After(grace) {
								return
							}
						}
					}
				}()
			}
		}
	}
	rng := rand.New(rand.NewSource(5))
	pad := payload(rng, o.RecSize)
	leaders := byLeader(ps)
	nw := len(leaders) * o.Conns
	roomForPacers(nw)
	wi := 0
	cpu0 := selfCPU()
	for leader, mine := range leaders {
		for k := 0; k < o.Conns; k++ {
			c, err := dial(cl.Brokers[leader], 10*time.Second, 64<<10)
			if err != nil {
				return nil, err
			}
			defer c.Close()
			v, err := c.pick(kmsg.NewPtrProduceRequest())
			if err != nil {
				return nil, err
			}
			sem := make(chan struct{}, o.Inflight)
			type open struct {
				due  []int64
				corr int32
			}
			fifo := make(chan open, o.Inflight)
			pool := sync.Pool{New: func() any { return make([]int64, 0, 256) }}
			h := newHist()
			pwg.Add(1)
			go func() {
				defer pwg.Done()
				resp := kmsg.NewPtrProduceResponse()
				resp.SetVersion(v)
				var buf []byte
				for p := range fifo {
					var corr int32
					var code int16
					var err error
					buf, corr, code, err = c.readAck(buf, resp, v >= 9)
					if err == nil && corr != p.corr {
						err = fmt.Errorf("ack %d where %d was due", corr, p.corr)
					}
					if err != nil {
						fail(err)
						<-sem
						for range fifo {
							<-sem
						}
						break
					}
					if code != 0 {
						errs.Add(1)
						lastCode.Store(int64(code))
					}
					now := int64(time.Since(epoch))
					for _, d := range p.due {
						if d >= measureFrom {
							h.add(time.Duration(now - d))
						}
					}
					acked.Add(int64(len(p.due)))
					pool.Put(p.due[:0])
					<-sem
				}
				mu.Lock()
				ack.Merge(h.Histogram)
				mu.Unlock()
			}()
			first := int64(wi) * int64(1e9/o.Rate)
			step := float64(nw) * 1e9 / o.Rate
			wi++
			pwg.Add(1)
			go func() {
				defer pwg.Done()
				defer close(fifo)
				pinPacer()
				batch := make([]byte, batchHeader, o.MaxBatch+4096)
				body := make([]byte, 0, o.RecSize)
				var out []byte
				n, pi, corr := int64(0), k, int32(1000)
				maxRecs := max(1, o.MaxBatch/(o.RecSize+12))
				for failed.Load() == nil {
					at := first + int64(float64(n)*step)
					if at >= stopAt {
						return
					}
					sleepUntil(epoch.Add(time.Duration(at)))
					sem <- struct{}{}
					now := int64(time.Since(epoch))
					due := pool.Get().([]int64)
					for at <= now && at < stopAt && len(due) < maxRecs {
						due = append(due, at)
						n++
						at = first + int64(float64(n)*step)
					}
					if len(due) == 0 {
						<-sem
						continue
					}
					batch = putBatch(batch, o.RecSize, body, due, pad)
					p := mine[pi%len(mine)]
					pi++
					t, err := encodeProduce(c, int16(o.Acks), 30000, []Part{p}, []Batch{{batch, len(due), 0}})
					if err != nil {
						fail(err)
						return
					}
					corr++
					binary.BigEndian.PutUint32(t.pre[8:], uint32(corr))
					out = append(append(append(out[:0], t.pre...), t.body...), t.suf...)
					fifo <- open{due, corr}
					sent.Add(int64(len(due)))
					if _, err := c.Write(out); err != nil {
						fail(err)
						return
					}
				}
			}()
		}
	}
	catch := map[string]any{}
	if o.CatchTopic != "" {
		pwg.Add(1)
		go func() {
			defer pwg.Done()
			sleepUntil(epoch.Add(time.Duration(measureFrom)))
			bytes, t0 := int64(0), time.Now()
			for int64(time.Since(epoch)) < stopAt {
				cf := &Fetch{Addr: o.Addr, Topic: o.CatchTopic, Conns: 1, Consumers: 1, MaxBytes: 50 << 20, PartBytes: 1 << 20, MaxWait: 500, MinBytes: 1,
					Seconds: float64(stopAt-int64(time.Since(epoch))) / 1e9}
				r, err := cf.run()
				if err != nil {
					fail(err)
					return
				}
				bytes += r["bytes"].(int64)
			}
			catch["mb_s"] = float64(bytes) / 1e6 / time.Since(t0).Seconds()
		}()
	}
	pwg.Wait()
	took := time.Since(epoch).Seconds()
	producersDone.Store(true)
	cwg.Wait()
	if e := failed.Load(); e != nil {
		return nil, *e
	}
	return map[string]any{"sent": sent.Load(), "acked": acked.Load(), "received": got.Load(), "errors": errs.Load() + fetchErrs.Load(), "last_error_code": lastCode.Load(), "gaps": gaps.Load(),
		"achieved_records_s": float64(sent.Load()) / took, "ack_latency": ack.summary(), "e2e_latency": e2e.summary(), "catchup": catch,
		"bytes": sent.Load() * int64(o.RecSize), "records": sent.Load(), "seconds": took, "client_cpu_s": selfCPU() - cpu0}, nil
}
