package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

type kafkaGo struct {
	client *kafka.Client
}

func newKafkaGo() client {
	return &kafkaGo{&kafka.Client{Addr: kafka.TCP(bootstrap...), Timeout: patience, Transport: &kafka.Transport{MetadataTTL: 500 * time.Millisecond}}}
}

// The producer of kafka-go is not idempotent; its readers do not tell empty from null and do not look at LogAppendTime.
func (*kafkaGo) traits() traits {
	return traits{codecs: []string{"none", "gzip", "snappy", "lz4", "zstd"}}
}

func (k *kafkaGo) createTopic(topic string, partitions int, configs map[string]string) error {
	ctx, cancel := within()
	defer cancel()
	var entries []kafka.ConfigEntry
	for name, value := range configs {
		entries = append(entries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	response, err := k.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{
		{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: entries}}})
	if err != nil {
		return err
	}
	return response.Errors[topic]
}

// byRecord lets each record say its partition.
func byRecord(message kafka.Message, _ ...int) int {
	return int(message.WriterData.(*record).partition)
}

func kafkaGoWriter(topic string, compression kafka.Compression) *kafka.Writer {
	return &kafka.Writer{Addr: kafka.TCP(bootstrap...), Topic: topic, Balancer: kafka.BalancerFunc(byRecord), RequiredAcks: kafka.RequireAll, Compression: compression,
		BatchTimeout: 5 * time.Millisecond, BatchBytes: 1_048_576, Transport: &kafka.Transport{MetadataTTL: 500 * time.Millisecond},
		Completion: func(messages []kafka.Message, err error) {
			for _, m := range messages {
				if err == nil {
					m.WriterData.(*record).offset = m.Offset
				}
			}
		}}
}

func kafkaGoMessage(r *record) kafka.Message {
	m := kafka.Message{Key: r.key, Value: r.value, Time: r.at, WriterData: r}
	for _, h := range r.headers {
		m.Headers = append(m.Headers, kafka.Header{Key: h.key, Value: h.value})
	}
	return m
}

func fromKafkaGo(m kafka.Message) record {
	r := record{partition: int32(m.Partition), offset: m.Offset, key: m.Key, value: m.Value, at: m.Time}
	for _, h := range m.Headers {
		r.headers = append(r.headers, header{h.Key, h.Value})
	}
	return r
}

func (*kafkaGo) produce(topic, codec string, records []record) ([]record, error) {
	var compression kafka.Compression
	if codec != "none" {
		if err := compression.UnmarshalText([]byte(codec)); err != nil {
			return nil, err
		}
	}
	w := kafkaGoWriter(topic, compression)
	records = slices.Clone(records)
	var all []kafka.Message
	for i := range records {
		all = append(all, kafkaGoMessage(&records[i]))
	}
	ctx, cancel := within()
	defer cancel()
	return records, errors.Join(w.WriteMessages(ctx, all...), w.Close())
}

func (*kafkaGo) read(topic string, partition int32, from, to int64) ([]record, error) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: bootstrap, Topic: topic, Partition: int(partition), MinBytes: 1, MaxBytes: 10e6, MaxWait: 200 * time.Millisecond})
	defer r.Close()
	if err := r.SetOffset(from); err != nil {
		return nil, err
	}
	ctx, cancel := within()
	defer cancel()
	var all []record
	for int64(len(all)) < to-from {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return nil, fmt.Errorf("after %d of %d records: %w", len(all), to-from, err)
		}
		all = append(all, fromKafkaGo(m))
	}
	return all, nil
}

func (k *kafkaGo) listOffsets(topic string, requests ...kafka.OffsetRequest) (kafka.PartitionOffsets, error) {
	ctx, cancel := within()
	defer cancel()
	response, err := k.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: requests}})
	if err != nil {
		return kafka.PartitionOffsets{}, err
	}
	return response.Topics[topic][0], response.Topics[topic][0].Error
}

func (k *kafkaGo) ends(topic string, partition int32) (int64, int64, error) {
	o, err := k.listOffsets(topic, kafka.FirstOffsetOf(int(partition)), kafka.LastOffsetOf(int(partition)))
	return o.FirstOffset, o.LastOffset, err
}

func (k *kafkaGo) offsetAt(topic string, partition int32, at time.Time) (int64, error) {
	conn, err := kafka.DialLeader(context.Background(), "tcp", bootstrap[0], topic, int(partition))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return conn.ReadOffset(at)
}

type kafkaGoMember struct {
	group *kafka.ConsumerGroup
	done  chan struct{}
	lock  sync.Mutex
	mine  []int32
}

func (*kafkaGo) join(topic, group string, got func(record)) (member, error) {
	g, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: group, Brokers: bootstrap, Topics: []string{topic}, HeartbeatInterval: 300 * time.Millisecond,
		StartOffset: kafka.FirstOffset, JoinGroupBackoff: 200 * time.Millisecond, SessionTimeout: 10 * time.Second, RebalanceTimeout: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	m := &kafkaGoMember{group: g, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		for {
			generation, err := g.Next(context.Background())
			if errors.Is(err, kafka.ErrGroupClosed) {
				return
			}
			if err != nil {
				continue
			}
			m.work(topic, generation, got)
		}
	}()
	return m, nil
}

func (m *kafkaGoMember) work(topic string, generation *kafka.Generation, got func(record)) {
	var mine []int32
	for _, assigned := range generation.Assignments[topic] {
		mine = append(mine, int32(assigned.ID))
		generation.Start(func(ctx context.Context) {
			reader := kafka.NewReader(kafka.ReaderConfig{Brokers: bootstrap, Topic: topic, Partition: assigned.ID, MinBytes: 1, MaxBytes: 1e6, MaxWait: 100 * time.Millisecond})
			defer reader.Close()
			_ = reader.SetOffset(assigned.Offset)
			for {
				message, err := reader.ReadMessage(ctx)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					continue
				}
				got(fromKafkaGo(message))
				_ = generation.CommitOffsets(map[string]map[int]int64{topic: {assigned.ID: message.Offset + 1}})
			}
		})
	}
	m.set(mine)
	generation.Start(func(ctx context.Context) {
		<-ctx.Done()
		m.set(nil)
	})
}

func (m *kafkaGoMember) set(mine []int32) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.mine = mine
}

func (m *kafkaGoMember) owned() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Clone(m.mine)
}

func (m *kafkaGoMember) close() error {
	err := m.group.Close()
	<-m.done
	return err
}

// The writer is synchronous: records are gathered, and written again until they are acknowledged.
type kafkaGoStream struct {
	writer  *kafka.Writer
	waiting []kafka.Message
	acks    []func()
}

func (*kafkaGo) stream(topic string) (stream, error) {
	return &kafkaGoStream{writer: kafkaGoWriter(topic, kafka.Lz4)}, nil
}

func (s *kafkaGoStream) send(r record, acked func(int64, error)) {
	s.waiting = append(s.waiting, kafkaGoMessage(&r))
	s.acks = append(s.acks, func() { acked(r.offset, nil) })
	if len(s.waiting) == 30 {
		s.flush()
	}
}

func (s *kafkaGoStream) flush() {
	end := time.Now().Add(time.Minute)
	for len(s.waiting) > 0 && time.Now().Before(end) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := s.writer.WriteMessages(ctx, s.waiting...)
		cancel()
		var some kafka.WriteErrors
		var messages []kafka.Message
		var acks []func()
		for i := range s.waiting {
			if err == nil || errors.As(err, &some) && some[i] == nil {
				s.acks[i]()
			} else {
				messages, acks = append(messages, s.waiting[i]), append(acks, s.acks[i])
			}
		}
		s.waiting, s.acks = messages, acks
	}
}

func (s *kafkaGoStream) close() error {
	s.flush()
	return s.writer.Close()
}

func (k *kafkaGo) ownClaims() []claim {
	return []claim{
		{"a reader with a group reads and commits", k.groupReader},
		{"admin: topics are created, described, grown, configured and deleted", k.adminTopics},
		{"admin: groups are listed, described and deleted", k.adminGroups},
		{"a plain connection creates a topic, writes and reads", k.plainConnection},
	}
}

func (k *kafkaGo) groupReader() {
	topic := newTopic(k, "reader", 3, nil)
	sent, err := k.produce(topic, "snappy", samples(k.traits(), 3, 60))
	must(err, "producing")
	byPlace := map[string]record{}
	for _, r := range sent {
		byPlace[fmt.Sprint(r.partition, "@", r.offset)] = r
	}
	ctx, cancel := within()
	defer cancel()
	for _, part := range []int{40, len(sent) - 40} {
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: bootstrap, Topic: topic, GroupID: topic, StartOffset: kafka.FirstOffset, MaxWait: 200 * time.Millisecond, JoinGroupBackoff: 200 * time.Millisecond})
		for range part {
			m, err := reader.FetchMessage(ctx)
			must(err, "fetching")
			place := fmt.Sprint(m.Partition, "@", m.Offset)
			expected, there := byPlace[place]
			check(there, "a second time, or never sent: %s", place)
			compare(k.traits(), expected, fromKafkaGo(m))
			delete(byPlace, place)
			must(reader.CommitMessages(ctx, m), "committing")
		}
		must(reader.Close(), "leaving")
	}
	same(0, len(byPlace), "records never seen")
}

func (k *kafkaGo) metadata(topic string) *kafka.Topic {
	ctx, cancel := within()
	defer cancel()
	response, err := k.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	must(err, "asking for metadata")
	return &response.Topics[0]
}

func (k *kafkaGo) adminTopics() {
	ctx, cancel := within()
	defer cancel()
	topic := newTopic(k, "admin", 2, map[string]string{"retention.ms": "7000000"})
	check(errors.Is(k.createTopic(topic, 1, nil), kafka.TopicAlreadyExists), "a topic was created again")
	check(errors.Is(k.createTopic("a b", 1, nil), kafka.InvalidTopic), "a bad name was accepted")
	same(2, len(k.metadata(topic).Partitions), "partitions")
	retention := func() string {
		described, err := k.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
			{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"retention.ms"}}}})
		must(err, "describing configs")
		return described.Resources[0].ConfigEntries[0].ConfigValue
	}
	same("7000000", retention(), "retention.ms")
	altered, err := k.client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, Configs: []kafka.IncrementalAlterConfigsRequestConfig{
			{Name: "retention.ms", Value: "8000000", ConfigOperation: kafka.ConfigOperationSet}}}}})
	must(err, "altering configs")
	must(altered.Resources[0].Error, "altering configs")
	eventually("the new config is seen", patience, func() bool { return retention() == "8000000" })
	grown, err := k.client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: 5}}})
	must(err, "growing")
	must(grown.Errors[topic], "growing")
	eventually("five partitions", patience, func() bool { return len(k.metadata(topic).Partitions) == 5 })
	deleted, err := k.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	must(err, "deleting")
	must(deleted.Errors[topic], "deleting")
	eventually("the topic is gone", patience, func() bool { return errors.Is(k.metadata(topic).Error, kafka.UnknownTopicOrPartition) })
}

func (k *kafkaGo) adminGroups() {
	ctx, cancel := within()
	defer cancel()
	topic := newTopic(k, "admin-group", 2, nil)
	m, err := k.join(topic, topic, func(record) {})
	must(err, "joining")
	settled(2, m)
	described, err := k.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{topic}})
	must(err, "describing")
	same("Stable", described.Groups[0].GroupState, "state")
	same(1, len(described.Groups[0].Members), "members")
	same(2, len(described.Groups[0].Members[0].MemberAssignments.Topics[0].Partitions), "partitions assigned")
	listed, err := k.client.ListGroups(ctx, &kafka.ListGroupsRequest{})
	must(err, "listing")
	check(slices.ContainsFunc(listed.Groups, func(g kafka.ListGroupsResponseGroup) bool { return g.GroupID == topic }), "the group is not listed")
	deleted, err := k.client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{topic}})
	must(err, "deleting")
	check(errors.Is(deleted.Errors[topic], kafka.NonEmptyGroup), "deleting a group with members: %v", deleted.Errors[topic])
	must(m.close(), "leaving")
	committed, err := k.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: topic, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: 1, Offset: 5, Metadata: "five"}}}})
	must(err, "committing")
	must(committed.Topics[topic][0].Error, "committing")
	fetched, err := k.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: topic, Topics: map[string][]int{topic: {0, 1}}})
	must(err, "fetching offsets")
	for _, p := range fetched.Topics[topic] {
		expected := map[int]int64{0: -1, 1: 5}[p.Partition]
		same(expected, p.CommittedOffset, fmt.Sprint("offset of partition ", p.Partition))
	}
	deleted, err = k.client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{topic}})
	must(err, "deleting")
	must(deleted.Errors[topic], "deleting")
}

// A Conn speaks the oldest versions of all.
func (k *kafkaGo) plainConnection() {
	topic := topicName("kafka-go-conn")
	conn, err := kafka.Dial("tcp", bootstrap[0])
	must(err, "connecting")
	defer conn.Close()
	controller, err := conn.Controller()
	must(err, "asking for the controller")
	host, port, err := net.SplitHostPort(bootstrap[0])
	must(err, "splitting the address")
	same(net.JoinHostPort(host, port), net.JoinHostPort(controller.Host, fmt.Sprint(controller.Port)), "address of the controller")
	must(conn.CreateTopics(kafka.TopicConfig{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}), "creating")
	var leader *kafka.Conn
	eventually("the topic has a leader", patience, func() bool {
		leader, err = kafka.DialLeader(context.Background(), "tcp", bootstrap[0], topic, 0)
		return err == nil
	})
	defer leader.Close()
	eventually("a record is written", patience, func() bool {
		_, err = leader.WriteMessages(kafka.Message{Key: []byte("k"), Value: []byte("v")})
		return err == nil
	})
	must(leader.SetReadDeadline(time.Now().Add(patience)), "setting a deadline")
	m, err := leader.ReadMessage(1e6)
	must(err, "reading")
	same("k=v", string(m.Key)+"="+string(m.Value), "record")
	must(conn.DeleteTopics(topic), "deleting")
}
