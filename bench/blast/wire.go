package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Highest versions this client speaks; the broker's own maximum caps them further.
var versionCap = map[int16]int16{0: 13, 1: 18, 18: 4}

// overTLS makes every connection an encrypted one. The certificate is not checked: it was made for this run.
var overTLS bool

// cipher is the suite of the last connection made, empty without TLS.
var cipher atomic.Value

func open(addr string, timeout time.Duration) (net.Conn, error) {
	nc, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil || !overTLS {
		return nc, err
	}
	nc.SetDeadline(time.Now().Add(timeout))
	t := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	if err := t.Handshake(); err != nil {
		nc.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	nc.SetDeadline(time.Time{})
	cipher.Store(tls.CipherSuiteName(t.ConnectionState().CipherSuite))
	return t, nil
}

func cipherName() string {
	name, _ := cipher.Load().(string)
	return name
}

type Conn struct {
	net.Conn
	br   *bufio.Reader
	vers map[int16][2]int16
	corr int32
	fmtr *kmsg.RequestFormatter
}

func dial(addr string, timeout time.Duration, rbuf int) (*Conn, error) {
	nc, err := open(addr, timeout)
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: nc, br: bufio.NewReaderSize(nc, rbuf), fmtr: kmsg.NewRequestFormatter(kmsg.FormatterClientID("blast"))}
	nc.SetDeadline(time.Now().Add(timeout))
	if err := c.negotiate(); err != nil {
		nc.Close()
		return nil, fmt.Errorf("ApiVersions: %w", err)
	}
	nc.SetDeadline(time.Time{})
	return c, nil
}

func newApiVersions() *kmsg.ApiVersionsRequest {
	r := kmsg.NewPtrApiVersionsRequest()
	r.ClientSoftwareName, r.ClientSoftwareVersion = "blast", "1.0"
	return r
}

// negotiate asks with v4 and, as KIP-511 has it, falls back to v0 where the broker answers UNSUPPORTED_VERSION.
func (c *Conn) negotiate() error {
	for _, v := range []int16{versionCap[18], 0} {
		req := newApiVersions()
		req.SetVersion(v)
		body, err := c.roundTrip(req, false)
		if err != nil {
			return err
		}
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.SetVersion(v)
		if len(body) >= 2 && int16(binary.BigEndian.Uint16(body)) == 35 {
			continue
		}
		if err := resp.ReadFrom(body); err != nil {
			return err
		}
		if resp.ErrorCode != 0 {
			return fmt.Errorf("error code %d", resp.ErrorCode)
		}
		c.vers = map[int16][2]int16{}
		for _, k := range resp.ApiKeys {
			c.vers[k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
		}
		return nil
	}
	return errors.New("no common ApiVersions version")
}

// pick returns the highest version of the key that both sides speak.
func (c *Conn) pick(req kmsg.Request) (int16, error) {
	v := req.MaxVersion()
	if lim, ok := versionCap[req.Key()]; ok && v > lim {
		v = lim
	}
	b, ok := c.vers[req.Key()]
	if !ok {
		return 0, fmt.Errorf("broker does not offer %s", kmsg.NameForKey(req.Key()))
	}
	if v > b[1] {
		v = b[1]
	}
	if v < b[0] {
		return 0, fmt.Errorf("%s: broker wants at least v%d", kmsg.NameForKey(req.Key()), b[0])
	}
	return v, nil
}

func (c *Conn) roundTrip(req kmsg.Request, flexHeader bool) ([]byte, error) {
	c.corr++
	if _, err := c.Write(c.fmtr.AppendRequest(nil, req, c.corr)); err != nil {
		return nil, err
	}
	body, err := c.readFrame()
	if err != nil {
		return nil, err
	}
	if len(body) < 4 || int32(binary.BigEndian.Uint32(body)) != c.corr {
		return nil, errors.New("response out of order")
	}
	body = body[4:]
	if flexHeader {
		return skipTags(body)
	}
	return body, nil
}

func (c *Conn) readFrame() ([]byte, error) {
	var sz [4]byte
	if _, err := io.ReadFull(c.br, sz[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(sz[:])
	if n > 1<<30 {
		return nil, fmt.Errorf("response of %d bytes", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c.br, b)
	return b, err
}

func skipTags(b []byte) ([]byte, error) {
	n, k := binary.Uvarint(b)
	if k <= 0 {
		return nil, io.ErrUnexpectedEOF
	}
	b = b[k:]
	for ; n > 0; n-- {
		_, k := binary.Uvarint(b)
		if k <= 0 {
			return nil, io.ErrUnexpectedEOF
		}
		b = b[k:]
		l, k := binary.Uvarint(b)
		if k <= 0 || int(l)+k > len(b) {
			return nil, io.ErrUnexpectedEOF
		}
		b = b[k+int(l):]
	}
	return b, nil
}

// ask sends one request at the highest common version and decodes the answer.
func (c *Conn) ask(req kmsg.Request) (kmsg.Response, error) {
	v, err := c.pick(req)
	if err != nil {
		return nil, err
	}
	req.SetVersion(v)
	body, err := c.roundTrip(req, req.IsFlexible() && req.Key() != 18)
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	resp.SetVersion(v)
	return resp, resp.ReadFrom(body)
}

type Part struct {
	Topic  string
	ID     [16]byte
	Num    int32
	Leader int32
}

type Cluster struct {
	Seeds   []string
	Brokers map[int32]string
	Control int32
}

func newCluster(addrs string) *Cluster {
	return &Cluster{Seeds: strings.Split(addrs, ","), Brokers: map[int32]string{}, Control: -1}
}

// any opens a connection to whichever broker answers first in the list.
func (cl *Cluster) any() (*Conn, error) {
	var last error
	for _, a := range cl.Seeds {
		c, err := dial(a, 3*time.Second, 64<<10)
		if err == nil {
			return c, nil
		}
		last = err
	}
	return nil, last
}

func (cl *Cluster) metadata(c *Conn, topics ...string) ([]Part, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	for _, t := range topics {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(t)
		req.Topics = append(req.Topics, rt)
	}
	r, err := c.ask(req)
	if err != nil {
		return nil, err
	}
	resp := r.(*kmsg.MetadataResponse)
	for _, b := range resp.Brokers {
		cl.Brokers[b.NodeID] = fmt.Sprintf("%s:%d", b.Host, b.Port)
	}
	cl.Control = resp.ControllerID
	var ps []Part
	for _, t := range resp.Topics {
		if t.ErrorCode != 0 {
			return nil, fmt.Errorf("topic %s: error code %d", *t.Topic, t.ErrorCode)
		}
		for _, p := range t.Partitions {
			ps = append(ps, Part{*t.Topic, t.TopicID, p.Partition, p.Leader})
		}
	}
	sort.Slice(ps, func(i, j int) bool {
		if ps[i].Topic != ps[j].Topic {
			return ps[i].Topic < ps[j].Topic
		}
		return ps[i].Num < ps[j].Num
	})
	return ps, nil
}

// ready waits until every partition of the topics has a leader.
func (cl *Cluster) ready(timeout time.Duration, want int, topics ...string) ([]Part, error) {
	end := time.Now().Add(timeout)
	for {
		ps, err := func() ([]Part, error) {
			c, err := cl.any()
			if err != nil {
				return nil, err
			}
			defer c.Close()
			ps, err := cl.metadata(c, topics...)
			if err != nil {
				return nil, err
			}
			if len(ps) < want {
				return nil, fmt.Errorf("%d of %d partitions", len(ps), want)
			}
			for _, p := range ps {
				if _, ok := cl.Brokers[p.Leader]; !ok || p.Leader < 0 {
					return nil, fmt.Errorf("%s/%d has no leader", p.Topic, p.Num)
				}
			}
			return ps, nil
		}()
		if err == nil {
			return ps, nil
		}
		if time.Now().After(end) {
			return nil, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// settled is ready, and each leader also answers ListOffsets as such: Metadata may run ahead of the leader itself.
func (cl *Cluster) settled(timeout time.Duration, want int, topic string) ([]Part, error) {
	end := time.Now().Add(timeout)
	for {
		ps, err := cl.ready(time.Until(end), want, topic)
		if err == nil {
			if _, err = cl.offsets(ps, -1); err == nil {
				return ps, nil
			}
		}
		if time.Now().After(end) {
			return nil, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// create goes in steps: a KRaft controller refuses more than 10 000 changes in one request.
func (cl *Cluster) create(topic string, parts int32, rf int16, configs map[string]string) error {
	const step = 5000
	if err := cl.createTopic(topic, min(parts, step), rf, configs); err != nil {
		return err
	}
	for n := int32(step); n < parts; {
		n = min(n+step, parts)
		c, err := cl.any()
		if err != nil {
			return err
		}
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.TimeoutMillis = 60000
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = topic, n
		req.Topics = append(req.Topics, t)
		r, err := c.ask(req)
		c.Close()
		if err != nil {
			return err
		}
		for _, t := range r.(*kmsg.CreatePartitionsResponse).Topics {
			if t.ErrorCode != 0 {
				return fmt.Errorf("%s to %d partitions: error code %d", topic, n, t.ErrorCode)
			}
		}
	}
	return nil
}

func (cl *Cluster) createTopic(topic string, parts int32, rf int16, configs map[string]string) error {
	c, err := cl.any()
	if err != nil {
		return err
	}
	defer c.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 60000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, parts, rf
	for k, v := range configs {
		cfg := kmsg.NewCreateTopicsRequestTopicConfig()
		cfg.Name, cfg.Value = k, kmsg.StringPtr(v)
		t.Configs = append(t.Configs, cfg)
	}
	req.Topics = append(req.Topics, t)
	r, err := c.ask(req)
	if err != nil {
		return err
	}
	for _, t := range r.(*kmsg.CreateTopicsResponse).Topics {
		if t.ErrorCode != 0 {
			msg := ""
			if t.ErrorMessage != nil {
				msg = *t.ErrorMessage
			}
			return fmt.Errorf("create %s: error code %d %s", topic, t.ErrorCode, msg)
		}
	}
	return nil
}

func (cl *Cluster) remove(topics ...string) error {
	c, err := cl.any()
	if err != nil {
		return err
	}
	defer c.Close()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 60000
	req.TopicNames = topics
	for _, n := range topics {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = kmsg.StringPtr(n)
		req.Topics = append(req.Topics, t)
	}
	r, err := c.ask(req)
	if err != nil {
		return err
	}
	for _, t := range r.(*kmsg.DeleteTopicsResponse).Topics {
		if t.ErrorCode != 0 {
			return fmt.Errorf("delete: error code %d", t.ErrorCode)
		}
	}
	return nil
}

// offsets lists the log end (ts -1) or start (ts -2) of each partition.
func (cl *Cluster) offsets(ps []Part, ts int64) (map[int32]int64, error) {
	out := map[int32]int64{}
	for leader, mine := range byLeader(ps) {
		c, err := dial(cl.Brokers[leader], 10*time.Second, 64<<10)
		if err != nil {
			return nil, err
		}
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID = -1
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = mine[0].Topic
		for _, p := range mine {
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = p.Num, ts, -1
			t.Partitions = append(t.Partitions, rp)
		}
		req.Topics = append(req.Topics, t)
		r, err := c.ask(req)
		c.Close()
		if err != nil {
			return nil, err
		}
		for _, t := range r.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode != 0 {
					return nil, fmt.Errorf("ListOffsets %d: error code %d", p.Partition, p.ErrorCode)
				}
				out[p.Partition] = p.Offset
			}
		}
	}
	return out, nil
}

func byLeader(ps []Part) map[int32][]Part {
	m := map[int32][]Part{}
	for _, p := range ps {
		m[p.Leader] = append(m[p.Leader], p)
	}
	return m
}
