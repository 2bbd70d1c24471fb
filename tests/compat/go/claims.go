package main

import (
	"bytes"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What every client must do, told once. A client translates its own library to these few words.
type client interface {
	traits() traits
	createTopic(topic string, partitions int, configs map[string]string) error
	// produce sends all with acks=all, each to its partition, and returns them with their offsets.
	produce(topic, codec string, records []record) ([]record, error)
	// read returns the records of a partition in [from, to).
	read(topic string, partition int32, from, to int64) ([]record, error)
	ends(topic string, partition int32) (start, end int64, err error)
	// offsetAt is the first offset at or after a time, -1 where there is none.
	offsetAt(topic string, partition int32, at time.Time) (int64, error)
	// join starts a member that hands over what it reads and then commits it.
	join(topic, group string, got func(record)) (member, error)
	// stream opens a producer with acks=all that goes on through a restart of the broker.
	stream(topic string) (stream, error)
	ownClaims() []claim
}

type member interface {
	owned() []int32
	close() error
}

type stream interface {
	send(r record, acked func(offset int64, err error))
	close() error
}

// traits is what a library can say at all, so that no claim asks for more.
type traits struct {
	codecs         []string
	nullHeaders    bool // a header value may be null, not only empty
	emptyIsNotNull bool // an empty key or value comes back as empty, not as null
	appendTime     bool // the time that a broker stamped on a batch is seen
	once           bool // the producer is idempotent; a calm rebalance repeats nothing
}

type header struct {
	key   string
	value []byte
}

type record struct {
	partition  int32
	offset     int64
	key, value []byte
	headers    []header
	at         time.Time
}

// Past, but within every retention time that a topic here has.
var baseTime = time.Now().Truncate(time.Second).Add(-time.Hour)

func topicName(hint string) string { return "compat-go-" + hint + "-" + run }

func newTopic(c client, hint string, partitions int, configs map[string]string) string {
	topic := topicName(fmt.Sprintf("%T-%s", c, hint)[len("*main."):])
	must(c.createTopic(topic, partitions, configs), "creating "+topic)
	eventually(topic+" is usable", 10*time.Second, func() bool {
		for p := range partitions {
			if _, _, err := c.ends(topic, int32(p)); err != nil {
				return false
			}
		}
		return true
	})
	return topic
}

func noise(seed, length int) []byte {
	b := make([]byte, length)
	rand.New(rand.NewSource(int64(seed))).Read(b)
	return b
}

// samples are records in every shape the library can say.
func samples(t traits, partitions, count int) []record {
	var all []record
	for i := range count {
		r := record{partition: int32(i % partitions), at: baseTime.Add(time.Duration(i) * time.Second)}
		switch i % 3 {
		case 1:
			r.key = []byte{}
		case 2:
			r.key = []byte(fmt.Sprint("key-", i))
		}
		switch i % 5 {
		case 1:
			r.value = []byte{}
		case 2:
			r.value = noise(i, 1+i%700)
		case 3, 4:
			r.value = []byte(strings.Repeat(fmt.Sprintf("value %d äöü ", i), 1+i%40))
		}
		switch i % 4 {
		case 1:
			r.headers = []header{{"null", nil}, {"empty", []byte{}}}
			if !t.nullHeaders {
				r.headers[0].value = []byte("not null")
			}
		case 2:
			r.headers = []header{{"same", []byte("1")}, {"same", []byte("2")}, {"", noise(i, 30)}}
		case 3:
			r.headers = []header{{"schlüssel", []byte(fmt.Sprint(i))}}
		}
		all = append(all, r)
	}
	for i, size := range []int{0, 1_000_000, 1_000_000} {
		r := record{partition: 0, at: baseTime.Add(time.Duration(count+i) * time.Second), key: []byte("large"), value: make([]byte, size)}
		if i == 2 {
			r.value = noise(i, size)
		}
		all = append(all, r)
	}
	return all
}

func equalBytes(t traits, a, b []byte) bool {
	return bytes.Equal(a, b) && (!t.emptyIsNotNull || (a == nil) == (b == nil))
}

func compare(t traits, expected, got record) {
	place := fmt.Sprintf(" at %d@%d", expected.partition, expected.offset)
	same(expected.partition, got.partition, "partition"+place)
	same(expected.offset, got.offset, "offset"+place)
	check(equalBytes(t, expected.key, got.key), "key%s: expected %q, got %q", place, expected.key, got.key)
	check(equalBytes(t, expected.value, got.value), "value%s: %d bytes expected, got %d (null: %v, %v)", place, len(expected.value), len(got.value), expected.value == nil, got.value == nil)
	same(expected.at.UnixMilli(), got.at.UnixMilli(), "timestamp"+place)
	same(len(expected.headers), len(got.headers), "number of headers"+place)
	for i, h := range expected.headers {
		check(h.key == got.headers[i].key && bytes.Equal(h.value, got.headers[i].value), "header %d%s: expected %v, got %v", i, place, h, got.headers[i])
		check(!t.nullHeaders || (h.value == nil) == (got.headers[i].value == nil), "header %d%s: null %v, got null %v", i, place, h.value == nil, got.headers[i].value == nil)
	}
}

// compareAll reads every partition to its end; the records must be those sent, each at the place acknowledged.
func compareAll(c client, topic string, partitions int, sent []record) {
	for p := range int32(partitions) {
		expected := slices.DeleteFunc(slices.Clone(sent), func(r record) bool { return r.partition != p })
		_, end, err := c.ends(topic, p)
		must(err, "asking for ends")
		same(int64(len(expected)), end, fmt.Sprint("end of partition ", p))
		got, err := c.read(topic, p, 0, end)
		must(err, "reading")
		same(len(expected), len(got), "records read")
		for i := range got {
			compare(c.traits(), expected[i], got[i])
		}
	}
}

func sharedClaims(c client) []claim {
	t := c.traits()
	var all []claim
	for _, codec := range t.codecs {
		all = append(all, claim{"records of every shape, empty to 1 MB, come back equal through " + codec, func() {
			topic := newTopic(c, "shapes-"+codec, 3, nil)
			sent, err := c.produce(topic, codec, samples(t, 3, 300))
			must(err, "producing")
			compareAll(c, topic, 3, sent)
		}})
	}
	if t.appendTime {
		all = append(all, claim{"LogAppendTime stamps are the broker's", func() { appendTime(c) }})
	}
	return append(all,
		claim{"offsets are found by time, and reading starts there", func() { byTime(c) }},
		claim{"reading starts at any offset", func() { seek(c) }},
		claim{"members that come and go under load share the partitions and miss nothing", func() { comeAndGo(c) }},
		claim{"a group goes on where it committed", func() { goesOn(c) }},
	)
}

func byTime(c client) {
	topic := newTopic(c, "times", 2, nil)
	sent, err := c.produce(topic, "none", samples(c.traits(), 1, 60))
	must(err, "producing")
	for millis, expected := range map[int64]int64{-5: 0, 0: 0, 1: 1, 42_000: 42, 42_001: 43, 59_000: 59} {
		got, err := c.offsetAt(topic, 0, baseTime.Add(time.Duration(millis)*time.Millisecond))
		must(err, "asking for a time")
		same(expected, got, fmt.Sprintf("offset at %d ms", millis))
		if millis > 0 {
			records, err := c.read(topic, 0, got, got+1)
			must(err, "reading")
			compare(c.traits(), sent[expected], records[0])
		}
	}
	last, err := c.offsetAt(topic, 0, baseTime.Add(time.Hour))
	must(err, "asking for a late time")
	check(last == -1 || last == int64(len(sent)), "offset after the last record: %d", last)
}

func seek(c client) {
	topic := newTopic(c, "seek", 1, nil)
	sent, err := c.produce(topic, "none", samples(c.traits(), 1, 200))
	must(err, "producing")
	for _, from := range []int64{150, 3, 199, 0} {
		got, err := c.read(topic, 0, from, int64(len(sent)))
		must(err, "reading")
		same(len(sent)-int(from), len(got), "records read")
		for i := range got {
			compare(c.traits(), sent[int(from)+i], got[i])
		}
	}
}

func appendTime(c client) {
	topic := newTopic(c, "append-time", 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	before := time.Now().UnixMilli()
	sent, err := c.produce(topic, "none", samples(c.traits(), 1, 20))
	must(err, "producing")
	got, err := c.read(topic, 0, 0, int64(len(sent)))
	must(err, "reading")
	for _, r := range got {
		check(before <= r.at.UnixMilli() && r.at.UnixMilli() <= time.Now().UnixMilli(), "timestamp %v at %d", r.at, r.offset)
	}
}

// seen collects what the members of one group were given.
type seen struct {
	sync.Mutex
	counts map[string]int
}

func (s *seen) got(r record) {
	s.Lock()
	defer s.Unlock()
	s.counts[fmt.Sprintf("%d@%d %s", r.partition, r.offset, r.value)]++
}

func (s *seen) len() int {
	s.Lock()
	defer s.Unlock()
	return len(s.counts)
}

func settled(partitions int, members ...member) {
	eventually(fmt.Sprintf("%d members share %d partitions", len(members), partitions), patience, func() bool {
		var all []int32
		for _, m := range members {
			owned := m.owned()
			if len(owned) == 0 {
				return false
			}
			all = append(all, owned...)
		}
		slices.Sort(all)
		return len(all) == partitions && len(slices.Compact(all)) == partitions
	})
}

func comeAndGo(c client) {
	const partitions = 6
	topic := newTopic(c, "group", partitions, nil)
	group := topic
	all := &seen{counts: map[string]int{}}
	join := func() member {
		m, err := c.join(topic, group, all.got)
		must(err, "joining")
		return m
	}
	stop := make(chan struct{})
	loaded := make(chan []record, 1)
	go func() {
		defer close(loaded)
		s, err := c.stream(topic)
		if err != nil {
			return
		}
		var acks sync.WaitGroup
		var lock sync.Mutex
		var sent []record
		for i := 0; ; i++ {
			select {
			case <-stop:
				if s.close() == nil {
					acks.Wait()
					loaded <- sent
				}
				return
			case <-time.After(2 * time.Millisecond):
				r := record{partition: int32(i % partitions), value: []byte(fmt.Sprint("v", i)), at: time.Now()}
				acks.Add(1)
				s.send(r, func(offset int64, err error) {
					defer acks.Done()
					if err == nil {
						lock.Lock()
						defer lock.Unlock()
						r.offset = offset
						sent = append(sent, r)
					}
				})
			}
		}
	}()
	a := join()
	settled(partitions, a)
	b := join()
	settled(partitions, a, b)
	d := join()
	settled(partitions, a, b, d)
	must(a.close(), "leaving")
	settled(partitions, b, d)
	must(d.close(), "leaving")
	settled(partitions, b)
	close(stop)
	sent, ok := <-loaded
	check(ok && len(sent) > 0, "the load failed")
	eventually(fmt.Sprintf("all %d records are seen", len(sent)), patience, func() bool { return all.len() >= len(sent) })
	must(b.close(), "leaving")
	for _, r := range sent {
		count := all.counts[fmt.Sprintf("%d@%d %s", r.partition, r.offset, r.value)]
		check(count > 0, "never seen: %s at %d@%d", r.value, r.partition, r.offset)
		check(count == 1 || !c.traits().once, "seen %d times: %s at %d@%d", count, r.value, r.partition, r.offset)
	}
	same(len(sent), all.len(), "places seen")
}

func goesOn(c client) {
	topic := newTopic(c, "goes-on", 1, nil)
	first, err := c.produce(topic, "none", samples(c.traits(), 1, 30))
	must(err, "producing")
	read := func(count int) []record {
		var lock sync.Mutex
		var got []record
		m, err := c.join(topic, topic, func(r record) { lock.Lock(); defer lock.Unlock(); got = append(got, r) })
		must(err, "joining")
		eventually(fmt.Sprintf("%d records are seen", count), patience, func() bool { lock.Lock(); defer lock.Unlock(); return len(got) >= count })
		must(m.close(), "leaving")
		lock.Lock()
		defer lock.Unlock()
		return got
	}
	for i, r := range read(len(first)) {
		compare(c.traits(), first[i], r)
	}
	second, err := c.produce(topic, "none", samples(c.traits(), 1, 7))
	must(err, "producing")
	got := read(len(second))
	same(len(second), len(got), "records after the commit")
	for i, r := range got {
		compare(c.traits(), second[i], r)
	}
}

func restartClaim(c client) claim {
	text := "what was acknowledged around a kill -9 is read, and a group goes on"
	if c.traits().once {
		text = "what was acknowledged around a kill -9 is read once, in order, and a group goes on"
	}
	return claim{text, func() {
		underLoad(c, "restart", func() {}, func() {
			controlBroker("kill")
			controlBroker("start")
		})
	}}
}

// promotionClaim has a leader and its follower; gap becomes the longest time without an acknowledgement.
func promotionClaim(c client, scene string, gap *time.Duration) claim {
	sync := func() { controlBroker("synced") }
	if scene == "kill" {
		return claim{"what was acknowledged is read once, in order, and a group goes on where a follower replaces a leader that died", func() {
			*gap = underLoad(c, "promotion", sync, func() { controlBroker("replace") })
		}}
	}
	return claim{"what was acknowledged is read once, in order, and a group goes on where a follower replaces a leader that runs", func() {
		*gap = underLoad(c, "promotion", sync, func() {
			controlBroker("promote")
			controlBroker("fenced")
		})
	}}
}

// underLoad has a producer and a group work before, during and after a change, and tells the longest time without an acknowledgement.
func underLoad(c client, hint string, prepare, change func()) time.Duration {
	const partitions, half = 3, 1500
	topic := newTopic(c, hint, partitions, nil)
	all := &seen{counts: map[string]int{}}
	m, err := c.join(topic, topic, all.got)
	must(err, "joining")
	s, err := c.stream(topic)
	must(err, "opening a producer")
	var lock sync.Mutex
	acked := map[string]int64{}
	var count atomic.Int64
	var refused atomic.Value
	var last time.Time
	var gap time.Duration
	prepare()
	stop := make(chan struct{})
	sent := make(chan int, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				sent <- i
				return
			default:
			}
			r := record{partition: int32(i % partitions), value: []byte(fmt.Sprint("v", i)), at: time.Now()}
			s.send(r, func(offset int64, err error) {
				if err != nil {
					refused.Store(err)
					return
				}
				lock.Lock()
				acked[string(r.value)] = offset
				if now := time.Now(); !last.IsZero() {
					gap = max(gap, now.Sub(last))
				}
				last = time.Now()
				lock.Unlock()
				count.Add(1)
			})
			if i%10 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	eventually("the first acknowledgements", patience, func() bool { return count.Load() >= half })
	change()
	before := count.Load()
	eventually("acknowledgements after the change", patience, func() bool { return count.Load() >= before+half })
	close(stop)
	total := <-sent
	must(s.close(), "closing the producer")
	err, _ = refused.Load().(error)
	check(err == nil, "a record was refused: %v", err)
	same(total, len(acked), "records acknowledged")
	records := 0
	for p := range int32(partitions) {
		var end int64
		eventually("the end is told after the change", patience, func() bool { _, end, err = c.ends(topic, p); return err == nil })
		got, err := c.read(topic, p, 0, end)
		must(err, "reading")
		places := map[string]int64{}
		next := int(p)
		for _, r := range got {
			records++
			v := string(r.value)
			_, again := places[v]
			check(!again || !c.traits().once, "%s is there twice: at %d and %d of partition %d", v, places[v], r.offset, p)
			if !again {
				same(fmt.Sprint("v", next), v, fmt.Sprintf("value at %d@%d", p, r.offset))
				next += partitions
			}
			places[v] = r.offset
			if acked[v] == r.offset {
				delete(acked, v)
			}
		}
	}
	check(len(acked) == 0, "%d acknowledged records are not at their place, of %d", len(acked), total)
	eventually(fmt.Sprintf("the group sees all %d records, not %d", records, all.len()), patience, func() bool { return all.len() == records })
	must(m.close(), "leaving")
	return gap
}
