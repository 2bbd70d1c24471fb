package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

type saramaClient struct {
	client sarama.Client
	admin  sarama.ClusterAdmin
}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Net.TLS.Enable, config.Net.TLS.Config = encryption != nil, encryption
	config.Metadata.Retry.Max, config.Metadata.Retry.Backoff = 200, 100*time.Millisecond
	config.Producer.RequiredAcks, config.Producer.Partitioner = sarama.WaitForAll, sarama.NewManualPartitioner
	config.Producer.Idempotent, config.Net.MaxOpenRequests = true, 1
	config.Producer.Retry.Max, config.Producer.Retry.Backoff = 400, 100*time.Millisecond
	config.Producer.Return.Successes, config.Producer.Return.Errors = true, true
	config.Producer.MaxMessageBytes = 1_048_000
	// What is marked is committed by the library, at the latest when a session ends.
	config.Consumer.Offsets.Initial, config.Consumer.Offsets.AutoCommit.Interval = sarama.OffsetOldest, 100*time.Millisecond
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	config.Consumer.Group.Rebalance.Retry.Max = 100
	config.Consumer.Retry.Backoff = 200 * time.Millisecond
	return config
}

func newSarama() client {
	cl, err := sarama.NewClient(bootstrap, saramaConfig())
	must(err, "opening a client")
	admin, err := sarama.NewClusterAdmin(bootstrap, saramaConfig())
	must(err, "opening an admin client")
	return &saramaClient{cl, admin}
}

func (*saramaClient) traits() traits {
	return traits{codecs: []string{"none", "gzip", "snappy", "lz4", "zstd"}, nullHeaders: true, emptyIsNotNull: true, appendTime: true, once: true}
}

func (s *saramaClient) createTopic(topic string, partitions int, configs map[string]string) error {
	detail := &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1, ConfigEntries: map[string]*string{}}
	for k, v := range configs {
		detail.ConfigEntries[k] = &v
	}
	return s.admin.CreateTopic(topic, detail, false)
}

func saramaMessage(topic string, r record) *sarama.ProducerMessage {
	out := &sarama.ProducerMessage{Topic: topic, Partition: r.partition, Timestamp: r.at}
	if r.key != nil {
		out.Key = sarama.ByteEncoder(r.key)
	}
	if r.value != nil {
		out.Value = sarama.ByteEncoder(r.value)
	}
	for _, h := range r.headers {
		out.Headers = append(out.Headers, sarama.RecordHeader{Key: []byte(h.key), Value: h.value})
	}
	return out
}

func fromSarama(m *sarama.ConsumerMessage) record {
	out := record{partition: m.Partition, offset: m.Offset, key: m.Key, value: m.Value, at: m.Timestamp}
	for _, h := range m.Headers {
		out.headers = append(out.headers, header{string(h.Key), h.Value})
	}
	return out
}

func (*saramaClient) produce(topic, codec string, records []record) ([]record, error) {
	config := saramaConfig()
	config.Producer.Compression = map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}[codec]
	producer, err := sarama.NewSyncProducer(bootstrap, config)
	if err != nil {
		return nil, err
	}
	var all []*sarama.ProducerMessage
	for _, r := range records {
		all = append(all, saramaMessage(topic, r))
	}
	if err := producer.SendMessages(all); err != nil {
		return nil, err
	}
	records = slices.Clone(records)
	for i := range records {
		records[i].offset = all[i].Offset
	}
	return records, producer.Close()
}

func (s *saramaClient) read(topic string, partition int32, from, to int64) ([]record, error) {
	consumer, err := sarama.NewConsumer(bootstrap, saramaConfig())
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	p, err := consumer.ConsumePartition(topic, partition, from)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	var all []record
	late := time.After(patience)
	for int64(len(all)) < to-from {
		select {
		case m := <-p.Messages():
			all = append(all, fromSarama(m))
		case <-late:
			return nil, fmt.Errorf("%d of %d records within %v", len(all), to-from, patience)
		}
	}
	return all, nil
}

func (s *saramaClient) ends(topic string, partition int32) (int64, int64, error) {
	_ = s.client.RefreshMetadata(topic)
	start, err := s.client.GetOffset(topic, partition, sarama.OffsetOldest)
	if err != nil {
		return 0, 0, err
	}
	end, err := s.client.GetOffset(topic, partition, sarama.OffsetNewest)
	return start, end, err
}

func (s *saramaClient) offsetAt(topic string, partition int32, at time.Time) (int64, error) {
	return s.client.GetOffset(topic, partition, at.UnixMilli())
}

type saramaMember struct {
	group  sarama.ConsumerGroup
	topic  string
	got    func(record)
	cancel context.CancelFunc
	done   chan struct{}
	lock   sync.Mutex
	mine   []int32
}

func (s *saramaClient) join(topic, group string, got func(record)) (member, error) {
	g, err := sarama.NewConsumerGroup(bootstrap, group, saramaConfig())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &saramaMember{group: g, topic: topic, got: got, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, m); errors.Is(err, sarama.ErrClosedConsumerGroup) {
				return
			}
		}
	}()
	return m, nil
}

func (m *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.mine = slices.Clone(session.Claims()[m.topic])
	return nil
}

func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.mine = nil
	return nil
}

func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			// A session that ends gives up its claims; what is not handed over now comes to the next owner.
			if session.Context().Err() != nil {
				return nil
			}
			m.got(fromSarama(message))
			session.MarkMessage(message, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *saramaMember) owned() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Clone(m.mine)
}

func (m *saramaMember) close() error {
	m.cancel()
	err := m.group.Close()
	<-m.done
	return err
}

type saramaStream struct {
	producer sarama.AsyncProducer
	topic    string
	done     sync.WaitGroup
}

func (*saramaClient) stream(topic string) (stream, error) {
	config := saramaConfig()
	config.Producer.Compression = sarama.CompressionLZ4
	producer, err := sarama.NewAsyncProducer(bootstrap, config)
	if err != nil {
		return nil, err
	}
	s := &saramaStream{producer: producer, topic: topic}
	s.done.Add(2)
	go func() {
		defer s.done.Done()
		for m := range producer.Successes() {
			m.Metadata.(func(int64, error))(m.Offset, nil)
		}
	}()
	go func() {
		defer s.done.Done()
		for e := range producer.Errors() {
			e.Msg.Metadata.(func(int64, error))(0, e.Err)
		}
	}()
	return s, nil
}

func (s *saramaStream) send(r record, acked func(int64, error)) {
	m := saramaMessage(s.topic, r)
	m.Metadata = acked
	s.producer.Input() <- m
}

func (s *saramaStream) close() error {
	s.producer.AsyncClose()
	s.done.Wait()
	return nil
}

func (s *saramaClient) ownClaims() []claim {
	return []claim{
		{"admin: topics are created, described, grown, configured and deleted", s.adminTopics},
		{"admin: groups are listed, described, moved and deleted", s.adminGroups},
		{"a client of version 2.1 works as well", s.oldVersion},
	}
}

func (s *saramaClient) adminTopics() {
	topic := newTopic(s, "admin", 2, map[string]string{"retention.ms": "7000000"})
	err := s.admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false)
	check(errors.Is(err, sarama.ErrTopicAlreadyExists), "creating again: %v", err)
	err = s.admin.CreateTopic("a b", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false)
	check(errors.Is(err, sarama.ErrInvalidTopic), "creating a bad name: %v", err)
	must(s.admin.CreateTopic(topicName("sarama-validated"), &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, true), "validating")
	listed, err := s.admin.ListTopics()
	must(err, "listing")
	same(2, listed[topic].NumPartitions, "partitions")
	same("7000000", *listed[topic].ConfigEntries["retention.ms"], "retention.ms")
	_, there := listed[topicName("sarama-validated")]
	check(!there, "a topic only validated exists")
	config := func(name string) string {
		entries, err := s.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{name}})
		must(err, "describing configs")
		same(1, len(entries), "configs asked for")
		return entries[0].Value
	}
	eight := "8000000"
	must(s.admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &eight}}, false), "altering configs")
	eventually("the new config is seen", patience, func() bool { return config("retention.ms") == eight })
	// The older AlterConfigs replaces everything: what is not named goes back to its default.
	must(s.admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"max.message.bytes": &eight}, false), "replacing configs")
	eventually("the replaced config is seen", patience, func() bool { return config("max.message.bytes") == eight })
	same("604800000", config("retention.ms"), "retention.ms after configs were replaced")
	must(s.admin.CreatePartitions(topic, 5, nil, false), "growing")
	eventually("five partitions", patience, func() bool {
		described, err := s.admin.DescribeTopics([]string{topic})
		return err == nil && len(described[0].Partitions) == 5
	})
	_, err = s.produce(topic, "none", samples(s.traits(), 1, 40))
	must(err, "producing")
	must(s.admin.DeleteRecords(topic, map[int32]int64{0: 10}), "deleting records")
	start, end, err := s.ends(topic, 0)
	must(err, "asking for ends")
	same(int64(10), start, "start")
	same(int64(43), end, "end")
	brokers, controller, err := s.admin.DescribeCluster()
	must(err, "describing the cluster")
	check(slices.ContainsFunc(brokers, func(b *sarama.Broker) bool { return b.ID() == controller }), "controller %d", controller)
	dirs, err := s.admin.DescribeLogDirs([]int32{controller})
	must(err, "describing log directories")
	check(len(dirs[controller]) > 0, "no log directories")
	must(s.admin.DeleteTopic(topic), "deleting")
	eventually("the topic is gone", patience, func() bool {
		listed, err := s.admin.ListTopics()
		_, there := listed[topic]
		return err == nil && !there
	})
}

func (s *saramaClient) adminGroups() {
	topic := newTopic(s, "admin-group", 2, nil)
	sent, err := s.produce(topic, "none", samples(s.traits(), 2, 20))
	must(err, "producing")
	all := &seen{counts: map[string]int{}}
	m, err := s.join(topic, topic, all.got)
	must(err, "joining")
	settled(2, m)
	eventually("everything is seen", patience, func() bool { return all.len() == len(sent) })
	described, err := s.admin.DescribeConsumerGroups([]string{topic})
	must(err, "describing")
	same("Stable", described[0].State, "state")
	same(1, len(described[0].Members), "members")
	for _, one := range described[0].Members {
		assignment, err := one.GetMemberAssignment()
		must(err, "decoding an assignment")
		same(2, len(assignment.Topics[topic]), "partitions assigned")
	}
	check(errors.Is(s.admin.DeleteConsumerGroup(topic), sarama.ErrNonEmptyGroup), "a group with members was deleted")
	must(m.close(), "leaving")
	groups, err := s.admin.ListConsumerGroups()
	must(err, "listing")
	same("consumer", groups[topic], "protocol type")
	_, err = s.admin.AlterConsumerGroupOffsets(topic, map[string]map[int32]sarama.OffsetAndMetadata{topic: {0: {Offset: 3, Metadata: "moved", LeaderEpoch: -1}}}, nil)
	must(err, "moving")
	offsets, err := s.admin.ListConsumerGroupOffsets(topic, map[string][]int32{topic: {0, 1}})
	must(err, "listing offsets")
	same(int64(3), offsets.GetBlock(topic, 0).Offset, "offset")
	same("moved", offsets.GetBlock(topic, 0).Metadata, "metadata")
	must(s.admin.DeleteConsumerGroupOffset(topic, topic, 0), "deleting an offset")
	offsets, err = s.admin.ListConsumerGroupOffsets(topic, map[string][]int32{topic: {0}})
	must(err, "listing offsets")
	same(int64(-1), offsets.GetBlock(topic, 0).Offset, "offset after it was deleted")
	must(s.admin.DeleteConsumerGroup(topic), "deleting")
	check(errors.Is(s.admin.DeleteConsumerGroup(topic), sarama.ErrGroupIDNotFound), "an unknown group was deleted")
}

// Years of clients ask in old versions of every request.
func (s *saramaClient) oldVersion() {
	topic := newTopic(s, "old", 1, nil)
	config := saramaConfig()
	config.Version = sarama.V2_1_0_0
	producer, err := sarama.NewSyncProducer(bootstrap, config)
	must(err, "opening an old producer")
	sent := samples(s.traits(), 1, 20)
	for i := range sent {
		_, sent[i].offset, err = producer.SendMessage(saramaMessage(topic, sent[i]))
		must(err, "producing")
	}
	must(producer.Close(), "closing")
	consumer, err := sarama.NewConsumer(bootstrap, config)
	must(err, "opening an old consumer")
	defer consumer.Close()
	p, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	must(err, "consuming")
	defer p.Close()
	for _, r := range sent {
		select {
		case m := <-p.Messages():
			compare(s.traits(), r, fromSarama(m))
		case <-time.After(patience):
			check(false, "no record at %d", r.offset)
		}
	}
}
