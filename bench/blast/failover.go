package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Failover produces to partition 0 at a fixed rate, kills the leader's process, follows the leadership as Metadata tells it,
// and afterwards reads the partition back to see that every acknowledged record is there.
type Failover struct {
	Addr, Topic, Pids, Signal string
	Rate, Seconds, KillAt     float64
	Acks, RecSize, Inflight   int
	TimeoutMs, SettleMs       int
}

func (o *Failover) run() (map[string]any, error) {
	pids := map[int32]int{}
	for _, kv := range strings.Split(o.Pids, ",") {
		id, pid, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, errors.New("-pids wants id=pid,id=pid")
		}
		i, err := strconv.Atoi(id)
		must(err)
		pids[int32(i)], err = strconv.Atoi(pid)
		must(err)
	}
	sig := syscall.SIGKILL
	if o.Signal == "TERM" {
		sig = syscall.SIGTERM
	} else if o.Signal == "STOP" {
		sig = syscall.SIGSTOP
	}
	cl := newCluster(o.Addr)
	ps, err := cl.ready(60*time.Second, 1, o.Topic)
	if err != nil {
		return nil, err
	}
	part := ps[0]
	for _, a := range cl.Brokers {
		if !strings.Contains(","+o.Addr+",", ","+a+",") {
			cl.Seeds = append(cl.Seeds, a)
		}
	}
	time.Sleep(time.Duration(o.SettleMs) * time.Millisecond)
	killedQuorum := quorumLeader(cl) == part.Leader
	epoch := time.Now()
	total := int64(o.Rate * o.Seconds)
	step := 1e9 / o.Rate
	ackedSeq := make([]bool, total)
	var mu sync.Mutex // guards what follows
	var ackedN, errsN int64
	codes := map[string]int64{}
	var lastAck, maxGap, gapFrom, gapTo, killedAt, firstAfter, newLeaderAt int64 = 0, 0, 0, 0, -1, -1, -1
	killedID := part.Leader
	h := newHist()
	var retry []int64 // sequence numbers to send again, in order
	next := int64(0)
	reconnects := 0

	go func() {
		sleepUntil(epoch.Add(time.Duration(o.KillAt * 1e9)))
		pid, ok := pids[killedID]
		if !ok {
			return
		}
		mu.Lock()
		killedAt = int64(time.Since(epoch))
		mu.Unlock()
		syscall.Kill(pid, sig)
	}()

	refresh := func() {
		for _, a := range cl.Seeds {
			c, err := dial(a, 500*time.Millisecond, 64<<10)
			if err != nil {
				continue
			}
			c.SetDeadline(time.Now().Add(time.Second))
			got, err := cl.metadata(c, o.Topic)
			c.Close()
			if err == nil && len(got) > 0 {
				if got[0].Leader >= 0 {
					part = got[0]
					if part.Leader != killedID {
						mu.Lock()
						if killedAt >= 0 && newLeaderAt < 0 {
							newLeaderAt = int64(time.Since(epoch))
						}
						mu.Unlock()
						return
					}
				}
			}
		}
	}
	roomForPacers(2)
	pinPacer()
	pad := payload(rand.New(rand.NewSource(3)), o.RecSize)
	batch := make([]byte, batchHeader, 64<<10)
	body := make([]byte, 0, o.RecSize)
	deadline := epoch.Add(time.Duration(o.Seconds*1e9) + 60*time.Second)
	for time.Now().Before(deadline) {
		mu.Lock()
		finished := ackedN == total
		mu.Unlock()
		if finished {
			break
		}
		addr, ok := cl.Brokers[part.Leader]
		var c *Conn
		err := errors.New("no address")
		if ok {
			c, err = dial(addr, 500*time.Millisecond, 64<<10)
		}
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			refresh()
			continue
		}
		v, err := c.pick(kmsg.NewPtrProduceRequest())
		if err != nil {
			c.Close()
			time.Sleep(20 * time.Millisecond)
			continue
		}
		sem := make(chan struct{}, o.Inflight)
		type open struct {
			seqs []int64
			corr int32
		}
		fifo := make(chan open, o.Inflight)
		broken := make(chan struct{})
		var unacked []int64
		readerDone := make(chan struct{})
		go func() {
			defer close(readerDone)
			resp := kmsg.NewPtrProduceResponse()
			resp.SetVersion(v)
			var buf []byte
			bad := false
			for p := range fifo {
				if !bad {
					c.SetReadDeadline(time.Now().Add(time.Duration(o.TimeoutMs) * time.Millisecond))
					var corr int32
					var code int16
					var err error
					buf, corr, code, err = c.readAck(buf, resp, v >= 9)
					if err == nil && corr != p.corr {
						err = fmt.Errorf("ack %d where %d was due", corr, p.corr)
					}
					if err == nil && code == 0 {
						now := int64(time.Since(epoch))
						mu.Lock()
						for _, s := range p.seqs {
							ackedSeq[s] = true
							h.add(time.Duration(now - int64(float64(s)*step)))
						}
						ackedN += int64(len(p.seqs))
						if g := now - lastAck; g > maxGap {
							maxGap, gapFrom, gapTo = g, lastAck, now
						}
						lastAck = now
						if killedAt >= 0 && firstAfter < 0 && part.Leader != killedID {
							firstAfter = now
						}
						mu.Unlock()
					} else {
						bad = true
						mu.Lock()
						errsN++
						if err != nil {
							k := "transport"
							var ne net.Error
							if errors.As(err, &ne) && ne.Timeout() {
								k = "timeout"
							}
							codes[k]++
						} else {
							codes[strconv.Itoa(int(code))]++
						}
						mu.Unlock()
						c.Close()
						close(broken)
					}
				}
				if bad {
					unacked = append(unacked, p.seqs...)
				}
				<-sem
			}
		}()
		corr := int32(1000)
	sending:
		for {
			if len(retry) == 0 && next >= total {
				break
			}
			if len(retry) == 0 {
				sleepUntil(epoch.Add(time.Duration(float64(next) * step)))
			}
			select {
			case <-broken:
				break sending
			case sem <- struct{}{}:
			}
			var seqs []int64
			lim := max(1, 16384/(o.RecSize+12))
			if k := min(len(retry), lim); k > 0 {
				seqs = append(seqs, retry[:k]...)
				retry = retry[k:]
			}
			for now := int64(time.Since(epoch)); len(seqs) < lim && len(retry) == 0 && next < total && int64(float64(next)*step) <= now; next++ {
				seqs = append(seqs, next)
			}
			if len(seqs) == 0 {
				<-sem
				continue
			}
			batch = putBatch(batch, o.RecSize, body, seqs, pad)
			t, err := encodeProduce(c, int16(o.Acks), int32(o.TimeoutMs), []Part{part}, []Batch{{batch, len(seqs), 0}})
			if err != nil {
				return nil, err
			}
			corr++
			binary.BigEndian.PutUint32(t.pre[8:], uint32(corr))
			out := append(append(append([]byte(nil), t.pre...), t.body...), t.suf...)
			fifo <- open{seqs, corr}
			if _, err := c.Write(out); err != nil {
				break
			}
		}
		close(fifo)
		<-readerDone
		c.Close()
		retry = append(unacked, retry...)
		if len(retry) > 0 {
			reconnects++
			time.Sleep(10 * time.Millisecond)
			refresh()
		}
	}
	// Read the partition back.
	seen := make([]bool, total)
	unique, dup := int64(0), int64(0)
	var gaps int64
	err = func() error {
		ps, err := cl.ready(60*time.Second, 1, o.Topic)
		if err != nil {
			return err
		}
		end, err := cl.offsets(ps[:1], -1)
		if err != nil {
			return err
		}
		f, err := newFetcher(cl.Brokers[ps[0].Leader], &Fetch{MaxBytes: 50 << 20, PartBytes: 4 << 20, MaxWait: 500, MinBytes: 1}, []*fpart{{ps[0], 0, end[ps[0].Num]}})
		if err != nil {
			return err
		}
		defer f.c.Close()
		f.onBatch = func(p *fpart, b []byte) {
			eachValue(b, func(v []byte) {
				s := int64(binary.BigEndian.Uint64(v))
				if s < 0 || s >= total {
					return
				}
				if seen[s] {
					dup++
				} else {
					seen[s] = true
					unique++
				}
			})
		}
		stop := time.Now().Add(60 * time.Second)
		for !f.done() {
			if err := f.once(); err != nil {
				return err
			}
			if time.Now().After(stop) {
				return errors.New("read back took more than 60 s")
			}
		}
		gaps = f.gaps
		return nil
	}()
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	lost := 0
	for s, a := range ackedSeq {
		if a && !seen[s] {
			lost++
		}
	}
	return map[string]any{"killed_id": killedID, "killed_quorum_leader": killedQuorum, "gap_ms": float64(maxGap) / 1e6, "gap_from_ms": float64(gapFrom) / 1e6, "gap_to_ms": float64(gapTo) / 1e6,
		"killed_at_ms": float64(killedAt) / 1e6, "ack_after_kill_ms": float64(firstAfter-killedAt) / 1e6, "new_leader_ms": float64(newLeaderAt-killedAt) / 1e6,
		"acked": ackedN, "sent": next, "total": total, "lost": lost, "duplicates": dup, "gaps": gaps, "reconnects": reconnects, "error_codes": codes, "ack_latency": h.summary()}, nil
}

// quorumLeader asks who leads the metadata quorum; -1 where the broker does not say.
func quorumLeader(cl *Cluster) int32 {
	c, err := cl.any()
	if err != nil {
		return -1
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	req := kmsg.NewPtrDescribeQuorumRequest()
	t := kmsg.NewDescribeQuorumRequestTopic()
	t.Topic = "__cluster_metadata"
	t.Partitions = append(t.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
	req.Topics = append(req.Topics, t)
	r, err := c.ask(req)
	if err != nil {
		return -1
	}
	for _, t := range r.(*kmsg.DescribeQuorumResponse).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode == 0 {
				return p.LeaderID
			}
		}
	}
	return -1
}
