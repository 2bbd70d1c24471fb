package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

type franz struct {
	admin *kadm.Client
}

func franzClient(opts ...kgo.Opt) *kgo.Client {
	// By its default it asks who leads at most every 5 s.
	all := []kgo.Opt{kgo.SeedBrokers(bootstrap...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100 * time.Millisecond)}
	if encryption != nil {
		all = append(all, kgo.DialTLSConfig(encryption))
	}
	cl, err := kgo.NewClient(append(all, opts...)...)
	must(err, "opening a client")
	return cl
}

func newFranz() client { return &franz{kadm.NewClient(franzClient())} }

func (*franz) traits() traits {
	return traits{codecs: []string{"none", "gzip", "snappy", "lz4", "zstd"}, nullHeaders: true, emptyIsNotNull: true, appendTime: true, once: true}
}

func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (f *franz) createTopic(topic string, partitions int, configs map[string]string) error {
	ctx, cancel := within()
	defer cancel()
	all := map[string]*string{}
	for k, v := range configs {
		all[k] = &v
	}
	_, err := f.admin.CreateTopic(ctx, int32(partitions), 1, all, topic)
	return err
}

func franzRecord(topic string, r record) *kgo.Record {
	out := &kgo.Record{Topic: topic, Partition: r.partition, Key: r.key, Value: r.value, Timestamp: r.at}
	for _, h := range r.headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.key, Value: h.value})
	}
	return out
}

func fromFranz(r *kgo.Record) record {
	out := record{partition: r.Partition, offset: r.Offset, key: r.Key, value: r.Value, at: r.Timestamp}
	for _, h := range r.Headers {
		out.headers = append(out.headers, header{h.Key, h.Value})
	}
	return out
}

func (*franz) produce(topic, codec string, records []record) ([]record, error) {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	cl := franzClient(kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(20*time.Millisecond), kgo.ProducerBatchMaxBytes(1_048_588))
	defer cl.Close()
	ctx, cancel := within()
	defer cancel()
	var all []*kgo.Record
	for _, r := range records {
		all = append(all, franzRecord(topic, r))
	}
	results := cl.ProduceSync(ctx, all...)
	if err := results.FirstErr(); err != nil {
		return nil, err
	}
	records = slices.Clone(records)
	for i := range records {
		records[i].offset = all[i].Offset
	}
	return records, nil
}

func (*franz) read(topic string, partition int32, from, to int64) ([]record, error) {
	cl := franzClient(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(from)}}))
	defer cl.Close()
	ctx, cancel := within()
	defer cancel()
	var all []record
	for int64(len(all)) < to-from {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset < to {
				all = append(all, fromFranz(r))
			}
		})
	}
	return all, nil
}

func (f *franz) ends(topic string, partition int32) (int64, int64, error) {
	ctx, cancel := within()
	defer cancel()
	start, err := f.admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	end, err := f.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	s, _ := start.Lookup(topic, partition)
	e, there := end.Lookup(topic, partition)
	if !there {
		return 0, 0, kerr.UnknownTopicOrPartition
	}
	return s.Offset, e.Offset, errors.Join(s.Err, e.Err)
}

func (f *franz) offsetAt(topic string, partition int32, at time.Time) (int64, error) {
	ctx, cancel := within()
	defer cancel()
	listed, err := f.admin.ListOffsetsAfterMilli(ctx, at.UnixMilli(), topic)
	if err != nil {
		return 0, err
	}
	o, _ := listed.Lookup(topic, partition)
	return o.Offset, o.Err
}

type franzMember struct {
	cl   *kgo.Client
	lock sync.Mutex
	mine map[int32]bool
	done chan struct{}
}

func (*franz) join(topic, group string, got func(record)) (member, error) {
	m := &franzMember{mine: map[int32]bool{}, done: make(chan struct{})}
	change := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(ctx context.Context, cl *kgo.Client, changed map[string][]int32) {
			if !owned {
				_ = cl.CommitUncommittedOffsets(ctx)
			}
			m.lock.Lock()
			defer m.lock.Unlock()
			for _, p := range changed[topic] {
				if owned {
					m.mine[p] = true
				} else {
					delete(m.mine, p)
				}
			}
		}
	}
	m.cl = franzClient(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)))
	go func() {
		defer close(m.done)
		for {
			fetches := m.cl.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			fetches.EachRecord(func(r *kgo.Record) { got(fromFranz(r)) })
			if fetches.NumRecords() > 0 {
				ctx, cancel := within()
				_ = m.cl.CommitUncommittedOffsets(ctx)
				cancel()
			}
			m.cl.AllowRebalance()
		}
	}()
	return m, nil
}

func (m *franzMember) owned() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	var all []int32
	for p := range m.mine {
		all = append(all, p)
	}
	return all
}

func (m *franzMember) close() error {
	m.cl.CloseAllowingRebalance()
	<-m.done
	return nil
}

type franzStream struct {
	cl    *kgo.Client
	topic string
}

func (*franz) stream(topic string) (stream, error) {
	return &franzStream{franzClient(kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.MaxBufferedRecords(1000), kgo.RetryTimeout(time.Minute)), topic}, nil
}

func (s *franzStream) send(r record, acked func(int64, error)) {
	s.cl.Produce(context.Background(), franzRecord(s.topic, r), func(r *kgo.Record, err error) { acked(r.Offset, err) })
}

func (s *franzStream) close() error {
	ctx, cancel := within()
	defer cancel()
	defer s.cl.Close()
	return s.cl.Flush(ctx)
}

func (f *franz) ownClaims() []claim {
	return []claim{
		{"admin: topics are created, described, grown, configured and deleted", f.adminTopics},
		{"admin: groups are listed, described, moved and deleted", f.adminGroups},
		{"an unknown topic made by its first record", f.autoCreate},
	}
}

func (f *franz) adminTopics() {
	ctx, cancel := within()
	defer cancel()
	topic := newTopic(f, "admin", 2, map[string]string{"retention.ms": "7000000"})
	_, err := f.admin.CreateTopic(ctx, 1, 1, nil, topic)
	check(errors.Is(err, kerr.TopicAlreadyExists), "creating again: %v", err)
	_, err = f.admin.CreateTopic(ctx, 1, 1, nil, "a b")
	check(errors.Is(err, kerr.InvalidTopicException), "creating a bad name: %v", err)
	_, err = f.admin.CreateTopic(ctx, 1, 5, nil, topicName("franz-rf"))
	check(errors.Is(err, kerr.InvalidReplicationFactor), "creating with five replicas: %v", err)
	listed, err := f.admin.ListTopics(ctx, topic)
	must(err, "listing")
	same(2, len(listed[topic].Partitions), "partitions")
	configs, err := f.admin.DescribeTopicConfigs(ctx, topic)
	must(err, "describing configs")
	value := func() string {
		for _, c := range configs[0].Configs {
			if c.Key == "retention.ms" {
				return c.MaybeValue()
			}
		}
		return ""
	}
	same("7000000", value(), "retention.ms")
	eight := "8000000"
	altered, err := f.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &eight}}, topic)
	must(err, "altering configs")
	must(altered[0].Err, "altering configs")
	eventually("the new config is seen", patience, func() bool {
		configs, err = f.admin.DescribeTopicConfigs(ctx, topic)
		return err == nil && value() == eight
	})
	_, err = f.admin.UpdatePartitions(ctx, 5, topic)
	must(err, "growing")
	eventually("five partitions", patience, func() bool {
		listed, err = f.admin.ListTopics(ctx, topic)
		return err == nil && len(listed[topic].Partitions) == 5
	})
	sent, err := f.produce(topic, "none", samples(f.traits(), 1, 40))
	must(err, "producing")
	deleted, err := f.admin.DeleteRecords(ctx, kadm.Offsets{topic: {0: {Topic: topic, Partition: 0, At: 10, LeaderEpoch: -1}}})
	must(err, "deleting records")
	d, _ := deleted.Lookup(topic, 0)
	same(int64(10), d.LowWatermark, "low watermark")
	start, end, err := f.ends(topic, 0)
	must(err, "asking for ends")
	same(int64(10), start, "start")
	same(int64(len(sent)), end, "end")
	latest, err := f.admin.ListMaxTimestampOffsets(ctx, topic)
	must(err, "asking for the latest time")
	l, _ := latest.Lookup(topic, 0)
	same(sent[len(sent)-1].at.UnixMilli(), l.Timestamp, "latest timestamp")
	dirs, err := f.admin.DescribeAllLogDirs(ctx, kadm.TopicsSet{topic: {0: {}}})
	must(err, "describing log directories")
	size, found := int64(0), false
	dirs.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) { size, found = size+p.Size, true })
	})
	check(found && size > 1_000_000, "size in the log directories: %d", size)
	meta, err := f.admin.BrokerMetadata(ctx)
	must(err, "asking for metadata")
	check(slices.Contains(meta.Brokers.NodeIDs(), meta.Controller), "controller %d among %v", meta.Controller, meta.Brokers.NodeIDs())
	_, err = f.admin.DeleteTopic(ctx, topic)
	must(err, "deleting")
	eventually("the topic is gone", patience, func() bool {
		listed, err = f.admin.ListTopics(ctx, topic)
		return err == nil && !listed.Has(topic)
	})
}

func (f *franz) adminGroups() {
	ctx, cancel := within()
	defer cancel()
	topic := newTopic(f, "admin-group", 2, nil)
	_, err := f.produce(topic, "none", samples(f.traits(), 2, 20))
	must(err, "producing")
	m, err := f.join(topic, topic, func(record) {})
	must(err, "joining")
	settled(2, m)
	described, err := f.admin.DescribeGroups(ctx, topic)
	must(err, "describing")
	same("Stable", described[topic].State, "state")
	same("cooperative-sticky", described[topic].Protocol, "protocol")
	one := described[topic]
	assigned := one.AssignedPartitions()
	same(2, len(assigned[topic]), "partitions assigned")
	eventually("no lag", patience, func() bool {
		lags, err := f.admin.Lag(ctx, topic)
		return err == nil && lags[topic].Lag.Total() == 0 && len(lags[topic].Lag[topic]) == 2
	})
	_, err = f.admin.DeleteGroup(ctx, topic)
	check(errors.Is(err, kerr.NonEmptyGroup), "deleting a group with members: %v", err)
	must(m.close(), "leaving")
	eventually("the group is empty", patience, func() bool {
		listed, err := f.admin.ListGroups(ctx, "Empty")
		return err == nil && listed[topic].Group == topic
	})
	must(f.admin.CommitAllOffsets(ctx, topic, kadm.Offsets{topic: {0: {Topic: topic, Partition: 0, At: 3, LeaderEpoch: -1, Metadata: "moved"}}}), "committing")
	fetched, err := f.admin.FetchOffsets(ctx, topic)
	must(err, "fetching offsets")
	o, _ := fetched.Lookup(topic, 0)
	same(int64(3), o.At, "offset")
	same("moved", o.Metadata, "metadata")
	_, err = f.admin.DeleteGroup(ctx, topic)
	must(err, "deleting")
	_, err = f.admin.DeleteGroup(ctx, topic)
	check(errors.Is(err, kerr.GroupIDNotFound), "deleting again: %v", err)
}

func (*franz) autoCreate() {
	cl := franzClient(kgo.AllowAutoTopicCreation())
	defer cl.Close()
	ctx, cancel := within()
	defer cancel()
	r, err := cl.ProduceSync(ctx, &kgo.Record{Topic: topicName("franz-auto"), Value: []byte("first")}).First()
	must(err, "producing")
	same(int64(0), r.Offset, "offset")
}
