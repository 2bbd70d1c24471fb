package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

type Fetch struct {
	Addr, Topic         string
	Conns, Consumers    int
	MaxBytes, PartBytes int
	MaxWait, MinBytes   int
	Verify              bool
	Tail                bool
	Seconds             float64
}

// frame reads one response of known length as a stream, so that the record bytes are never copied out.
type frame struct {
	r   *bufio.Reader
	n   int
	err error
}

func (f *frame) take(n int) []byte { // valid until the next read
	if f.err == nil && n > f.n {
		f.err = io.ErrUnexpectedEOF
	}
	if f.err != nil {
		return make([]byte, n)
	}
	b, err := f.r.Peek(n)
	if err != nil {
		f.err = err
		return make([]byte, n)
	}
	f.r.Discard(n)
	f.n -= n
	return b
}
func (f *frame) i16() int16 { return int16(binary.BigEndian.Uint16(f.take(2))) }
func (f *frame) i32() int32 { return int32(binary.BigEndian.Uint32(f.take(4))) }
func (f *frame) i64() int64 { return int64(binary.BigEndian.Uint64(f.take(8))) }
func (f *frame) uv() int {
	var x, s uint
	for i := 0; i < 5; i++ {
		b := f.take(1)[0]
		x |= uint(b&0x7f) << s
		if b < 0x80 {
			break
		}
		s += 7
	}
	return int(x)
}
func (f *frame) skip(n int) {
	if f.err == nil && n > f.n {
		f.err = io.ErrUnexpectedEOF
	}
	if f.err != nil || n <= 0 {
		return
	}
	if _, err := f.r.Discard(n); err != nil {
		f.err = err
	}
	f.n -= n
}
func (f *frame) tags(flex bool) {
	if flex {
		for n := f.uv(); n > 0 && f.err == nil; n-- {
			f.uv()
			f.skip(f.uv())
		}
	}
}
func (f *frame) arr(flex bool) int {
	if flex {
		return f.uv() - 1
	}
	return int(f.i32())
}

type fpart struct {
	Part
	next, end int64 // end < 0: endless
}

// fetcher is one connection to one broker for a set of partitions, with an incremental fetch session (KIP-227).
type fetcher struct {
	c                      *Conn
	v                      int16
	parts                  map[int32]*fpart
	byID                   []*fpart
	topic                  string
	id                     [16]byte
	session, epoch         int32
	dirty                  map[int32]bool
	maxBytes, partBytes    int32
	maxWait, minBytes      int32
	verify                 bool
	onBatch                func(p *fpart, batch []byte) // set: batches are read whole
	bytes, records, nbatch int64
	gaps, badCRC, errcodes int64
	lastCode               int64
	fetches                int64
	scratch                []byte
}

func newFetcher(addr string, o *Fetch, ps []*fpart) (*fetcher, error) {
	c, err := dial(addr, 10*time.Second, 256<<10)
	if err != nil {
		return nil, err
	}
	v, err := c.pick(kmsg.NewPtrFetchRequest())
	if err != nil {
		return nil, err
	}
	f := &fetcher{c: c, v: v, parts: map[int32]*fpart{}, dirty: map[int32]bool{}, topic: ps[0].Topic, id: ps[0].ID,
		maxBytes: int32(o.MaxBytes), partBytes: int32(o.PartBytes), maxWait: int32(o.MaxWait), minBytes: int32(o.MinBytes), verify: o.Verify}
	for _, p := range ps {
		f.parts[p.Num] = p
	}
	f.byID = ps
	return f, nil
}

func (f *fetcher) once() error {
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(f.v)
	req.ReplicaID = -1
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = f.maxWait, f.minBytes, f.maxBytes
	req.SessionID, req.SessionEpoch = f.session, f.epoch
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = f.topic, f.id
	for _, p := range f.byID {
		if f.epoch != 0 && !f.dirty[p.Num] {
			continue
		}
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = p.Num, p.next, f.partBytes, -1
		t.Partitions = append(t.Partitions, rp)
	}
	clear(f.dirty)
	if len(t.Partitions) > 0 {
		req.Topics = append(req.Topics, t)
	}
	f.c.corr++
	if _, err := f.c.Write(f.c.fmtr.AppendRequest(nil, req, f.c.corr)); err != nil {
		return err
	}
	f.fetches++
	return f.read()
}

func (f *fetcher) read() error {
	fr := &frame{r: f.c.br, n: 4}
	size := int(fr.i32())
	if fr.err != nil {
		return fr.err
	}
	fr.n = size
	if corr := fr.i32(); fr.err == nil && corr != f.c.corr {
		return fmt.Errorf("fetch answer %d where %d was due", corr, f.c.corr)
	}
	flex := f.v >= 12
	fr.tags(flex)
	fr.i32() // throttle
	if f.v >= 7 {
		code := fr.i16()
		sid := fr.i32()
		if code != 0 {
			f.errcodes++
			f.lastCode = int64(code)
			f.session, f.epoch = 0, 0
			fr.skip(fr.n)
			return fr.err
		}
		f.session = sid
		if sid == 0 {
			f.epoch = 0
		} else {
			f.epoch++
		}
	}
	for nt := fr.arr(flex); nt > 0 && fr.err == nil; nt-- {
		if f.v >= 13 {
			fr.skip(16)
		} else if flex {
			fr.skip(fr.uv() - 1)
		} else {
			fr.skip(int(fr.i16()))
		}
		for np := fr.arr(flex); np > 0 && fr.err == nil; np-- {
			num := fr.i32()
			code := fr.i16()
			fr.i64() // high watermark
			fr.i64() // last stable offset
			if f.v >= 5 {
				fr.i64()
			}
			for na := fr.arr(flex); na > 0 && fr.err == nil; na-- {
				fr.skip(16)
				fr.tags(flex)
			}
			if f.v >= 11 {
				fr.i32()
			}
			rl := fr.arr(flex)
			p := f.parts[num]
			if code != 0 || p == nil {
				f.errcodes++
				f.lastCode = int64(code)
				if p != nil {
					f.dirty[num] = true
				}
			}
			if rl > 0 {
				f.records1(fr, p, rl)
			}
			fr.tags(flex)
		}
		fr.tags(flex)
	}
	if fr.err == nil {
		fr.skip(fr.n)
	}
	return fr.err
}

func (f *fetcher) records1(fr *frame, p *fpart, rem int) {
	f.bytes += int64(rem)
	for rem >= batchHeader && fr.err == nil {
		h, err := fr.r.Peek(batchHeader)
		if err != nil {
			fr.err = err
			return
		}
		base := int64(binary.BigEndian.Uint64(h))
		size := int(binary.BigEndian.Uint32(h[8:])) + 12
		if size > rem {
			break // the broker may cut the last batch short
		}
		crc := binary.BigEndian.Uint32(h[17:])
		last := base + int64(binary.BigEndian.Uint32(h[23:]))
		n := int64(binary.BigEndian.Uint32(h[57:]))
		if p == nil || last < p.next {
			fr.skip(size) // before the asked offset
		} else {
			if base != p.next {
				f.gaps++
			}
			p.next = last + 1
			f.dirty[p.Num] = true
			f.records += n
			f.nbatch++
			switch {
			case f.onBatch != nil:
				f.scratch = append(f.scratch[:0], make([]byte, size)...)
				if _, err := io.ReadFull(fr.r, f.scratch); err != nil {
					fr.err = err
				}
				fr.n -= size
				f.onBatch(p, f.scratch)
			case f.verify:
				fr.skip(21)
				sum, left := uint32(0), size-21
				for left > 0 && fr.err == nil {
					chunk := fr.take(min(left, 64<<10))
					sum = crc32.Update(sum, castagnoli, chunk)
					left -= len(chunk)
				}
				if sum != crc {
					f.badCRC++
				}
			default:
				fr.skip(size)
			}
		}
		rem -= size
	}
	fr.skip(rem)
}

func (f *fetcher) done() bool {
	for _, p := range f.byID {
		if p.end < 0 || p.next < p.end {
			return false
		}
	}
	return true
}

// run drains the topic from its first offset to what is its end at the start, once per consumer. With Tail it waits at the
// end for Seconds instead.
func (o *Fetch) run() (map[string]any, error) {
	cl := newCluster(o.Addr)
	ps, err := cl.ready(60*time.Second, 1, o.Topic)
	if err != nil {
		return nil, err
	}
	starts, err := cl.offsets(ps, -2)
	if err != nil {
		return nil, err
	}
	ends, err := cl.offsets(ps, -1)
	if err != nil {
		return nil, err
	}
	var want int64
	var fs []*fetcher
	for k := 0; k < o.Consumers; k++ {
		for leader, mine := range byLeader(ps) {
			n := min(o.Conns, len(mine))
			for j := 0; j < n; j++ {
				var sel []*fpart
				for i := j; i < len(mine); i += n {
					p := mine[i]
					if o.Tail {
						sel = append(sel, &fpart{p, ends[p.Num], -1})
						continue
					}
					sel = append(sel, &fpart{p, starts[p.Num], ends[p.Num]})
					want += ends[p.Num] - starts[p.Num]
				}
				f, err := newFetcher(cl.Brokers[leader], o, sel)
				if err != nil {
					return nil, err
				}
				defer f.c.Close()
				fs = append(fs, f)
			}
		}
	}
	h := newHist()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	cpu0, t0 := selfCPU(), time.Now()
	for _, f := range fs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			mine := newHist()
			for !f.done() && (o.Seconds == 0 || time.Since(t0).Seconds() < o.Seconds) {
				s := time.Now()
				if err := f.once(); err != nil {
					failed.Store(&err)
					return
				}
				mine.add(time.Since(s))
				if f.errcodes > 1000 {
					err := fmt.Errorf("error code %d again and again", f.lastCode)
					failed.Store(&err)
					return
				}
			}
			mu.Lock()
			h.Merge(mine.Histogram)
			mu.Unlock()
		}()
	}
	wg.Wait()
	el := time.Since(t0).Seconds()
	if e := failed.Load(); e != nil {
		return nil, *e
	}
	var bytes, recs, gaps, bad, ec, n int64
	for _, f := range fs {
		bytes, recs, gaps, bad, ec, n = bytes+f.bytes, recs+f.records, gaps+f.gaps, bad+f.badCRC, ec+f.errcodes, n+f.fetches
	}
	return map[string]any{"seconds": el, "mb_s": float64(bytes) / 1e6 / el, "records_s": float64(recs) / el, "records": recs, "bytes": bytes,
		"expected_records": want, "gaps": gaps, "bad_crc": bad, "errors": ec, "fetches": n, "fetch_latency": h.summary(),
		"connections": len(fs), "fetch_version": fs[0].v, "client_cpu_s": selfCPU() - cpu0, "cipher": cipherName()}, nil
}
