// Asks a running Apache Kafka every API in every version and writes what went over the wire, one file for each API.
//
// A line is "VERSION REQUEST RESPONSE", both in hex with their headers and without the size prefix. Requests are built by
// Kafka's own message classes, so that both directions are Kafka's bytes. Run it with `run`, on a fresh broker.

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.record.*;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.serialization.StringSerializer;

public class Capture {
    static final Map<ApiKeys, List<String>> LINES = new TreeMap<>();
    static final HexFormat HEX = HexFormat.of();
    static String host;
    static int port;
    static DataInputStream in;
    static DataOutputStream out;
    static int correlation = 0;

    public static void main(String[] args) throws Exception {
        host = args[0];
        port = Integer.parseInt(args[1]);
        connect();
        basics();
        data();
        admin();
        groups();
        transactions();
        rest();
        Path dir = Path.of(args[2]);
        Files.createDirectories(dir);
        for (var entry : LINES.entrySet()) {
            Files.write(dir.resolve(entry.getKey().messageType.name.concat(".txt")), entry.getValue());
        }
    }

    static void connect() throws Exception {
        Socket socket = new Socket(host, port);
        socket.setSoTimeout(30_000);
        in = new DataInputStream(socket.getInputStream());
        out = new DataOutputStream(socket.getOutputStream());
    }

    // --- the wire ---

    static ByteBuffer bytes(ApiMessage message, short version) {
        var cache = new ObjectSerializationCache();
        var buffer = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(buffer), cache, version);
        return buffer.flip();
    }

    /** Sends a request and returns the answer's body; keeps both for the golden files if `keep`. */
    @SuppressWarnings("unchecked")
    static <R extends ApiMessage> R call(boolean keep, ApiKeys key, int apiVersion, ApiMessage body) throws Exception {
        short version = (short) apiVersion;
        var header = new RequestHeaderData()
            .setRequestApiKey(key.id)
            .setRequestApiVersion(version)
            .setCorrelationId(++correlation)
            .setClientId("golden");
        var head = bytes(header, key.requestHeaderVersion(version));
        var tail = bytes(body, version);
        byte[] request = new byte[head.remaining() + tail.remaining()];
        int headSize = head.remaining();
        head.get(request, 0, headSize);
        tail.get(request, headSize, tail.remaining());
        byte[] response;
        try {
            out.writeInt(request.length);
            out.write(request);
            out.flush();
            response = new byte[in.readInt()];
            in.readFully(response);
        } catch (java.io.EOFException | java.net.SocketTimeoutException e) {
            System.err.println("no answer: " + key + " version " + version + ": " + e);
            connect();
            return null;
        }
        if (keep) {
            String line = version + " " + HEX.formatHex(request) + " " + HEX.formatHex(response);
            LINES.computeIfAbsent(key, k -> new ArrayList<>()).add(line);
        }
        var accessor = new ByteBufferAccessor(ByteBuffer.wrap(response));
        new ResponseHeaderData(accessor, key.responseHeaderVersion(version));
        ApiMessage answer = key.messageType.newResponse();
        answer.read(accessor, version);
        if (accessor.remaining() != 0) throw new IllegalStateException(key + " left bytes");
        return (R) answer;
    }

    static <R extends ApiMessage> R keep(ApiKeys key, int version, ApiMessage body) throws Exception {
        return call(true, key, version, body);
    }

    static <R extends ApiMessage> R ask(ApiKeys key, int version, ApiMessage body) throws Exception {
        return call(false, key, version, body);
    }

    interface Versioned {
        void run(int version) throws Exception;
    }

    static void each(ApiKeys key, Versioned body) throws Exception {
        for (int version = key.oldestVersion(); version <= key.latestVersion(false); version++) body.run(version);
    }

    @SafeVarargs
    static <T, C extends Collection<T>> C of(C collection, T... items) {
        collection.addAll(List.of(items));
        return collection;
    }

    // --- APIs ---

    static Uuid topicId(String name) throws Exception {
        var topics = List.of(new MetadataRequestData.MetadataRequestTopic().setName(name));
        MetadataResponseData answer = ask(ApiKeys.METADATA, 12,
            new MetadataRequestData().setTopics(topics).setAllowAutoTopicCreation(false));
        return answer.topics().iterator().next().topicId();
    }

    static void createTopic(String name, int partitions) throws Exception {
        var topic = new CreateTopicsRequestData.CreatableTopic()
            .setName(name).setNumPartitions(partitions).setReplicationFactor((short) 1);
        ask(ApiKeys.CREATE_TOPICS, 7, new CreateTopicsRequestData().setTimeoutMs(10_000)
            .setTopics(of(new CreateTopicsRequestData.CreatableTopicCollection(), topic)));
        while (topicId(name).equals(Uuid.ZERO_UUID)) Thread.onSpinWait();
        // The leader may still be starting the partition: a list of offsets that succeeds says it has.
        for (int partition = 0; partition < partitions; partition++) {
            var wanted = new ListOffsetsRequestData.ListOffsetsPartition().setPartitionIndex(partition).setTimestamp(-1);
            short error;
            do {
                ListOffsetsResponseData answer = ask(ApiKeys.LIST_OFFSETS, 7, new ListOffsetsRequestData().setReplicaId(-1)
                    .setTopics(List.of(new ListOffsetsRequestData.ListOffsetsTopic().setName(name)
                        .setPartitions(List.of(wanted)))));
                error = answer.topics().get(0).partitions().get(0).errorCode();
            } while (error != 0);
        }
    }

    static void basics() throws Exception {
        each(ApiKeys.API_VERSIONS, v -> keep(ApiKeys.API_VERSIONS, v, new ApiVersionsRequestData()
            .setClientSoftwareName("golden").setClientSoftwareVersion("1.0")));
        createTopic("data", 3);
        createTopic("other", 1);
        ask(ApiKeys.INCREMENTAL_ALTER_CONFIGS, 1, new IncrementalAlterConfigsRequestData().setResources(
            of(new IncrementalAlterConfigsRequestData.AlterConfigsResourceCollection(),
                new IncrementalAlterConfigsRequestData.AlterConfigsResource().setResourceType((byte) 2)
                    .setResourceName("other").setConfigs(
                        of(new IncrementalAlterConfigsRequestData.AlterableConfigCollection(),
                            new IncrementalAlterConfigsRequestData.AlterableConfig().setName("cleanup.policy")
                                .setConfigOperation((byte) 0).setValue("compact"))))));
        Uuid id = topicId("data");
        each(ApiKeys.METADATA, v -> {
            var named = new MetadataRequestData.MetadataRequestTopic().setName("data");
            var missing = new MetadataRequestData.MetadataRequestTopic().setName("missing");
            var bad = new MetadataRequestData.MetadataRequestTopic().setName("not/valid");
            var request = new MetadataRequestData().setTopics(List.of(named, missing, bad));
            // Before version 4 the schema knows no other value than true.
            request.setAllowAutoTopicCreation(v < 4);
            if (v < 4) request.setTopics(List.of(named, bad));
            if (v >= 8) request.setIncludeTopicAuthorizedOperations(true);
            if (v >= 8 && v <= 10) request.setIncludeClusterAuthorizedOperations(true);
            keep(ApiKeys.METADATA, v, request);
            keep(ApiKeys.METADATA, v, new MetadataRequestData().setTopics(v == 0 ? List.of() : null));
            if (v >= 12) {
                var byId = new MetadataRequestData.MetadataRequestTopic().setName(null).setTopicId(id);
                var noId = new MetadataRequestData.MetadataRequestTopic().setName(null).setTopicId(new Uuid(1, 2));
                keep(ApiKeys.METADATA, v, new MetadataRequestData().setTopics(List.of(byId, noId)));
            }
        });
        each(ApiKeys.DESCRIBE_TOPIC_PARTITIONS, v -> {
            var topic = new DescribeTopicPartitionsRequestData.TopicRequest().setName("data");
            var missing = new DescribeTopicPartitionsRequestData.TopicRequest().setName("missing");
            keep(ApiKeys.DESCRIBE_TOPIC_PARTITIONS, v, new DescribeTopicPartitionsRequestData()
                .setTopics(List.of(topic, missing)).setResponsePartitionLimit(2));
            keep(ApiKeys.DESCRIBE_TOPIC_PARTITIONS, v, new DescribeTopicPartitionsRequestData()
                .setTopics(List.of(topic)).setCursor(new DescribeTopicPartitionsRequestData.Cursor()
                    .setTopicName("data").setPartitionIndex(2)));
        });
        each(ApiKeys.DESCRIBE_CLUSTER, v -> {
            keep(ApiKeys.DESCRIBE_CLUSTER, v, new DescribeClusterRequestData()
                .setIncludeClusterAuthorizedOperations(true));
            if (v >= 1) keep(ApiKeys.DESCRIBE_CLUSTER, v, new DescribeClusterRequestData().setEndpointType((byte) 2));
        });
        each(ApiKeys.DESCRIBE_QUORUM, v -> {
            var partition = new DescribeQuorumRequestData.PartitionData().setPartitionIndex(0);
            keep(ApiKeys.DESCRIBE_QUORUM, v, new DescribeQuorumRequestData().setTopics(List.of(
                new DescribeQuorumRequestData.TopicData().setTopicName("__cluster_metadata")
                    .setPartitions(List.of(partition)))));
        });
    }

    static MemoryRecords records(Compression compression, int first) {
        long time = 1_700_000_000_000L;
        Header[] headers = {new RecordHeader("h", "v".getBytes()), new RecordHeader("empty", null)};
        return MemoryRecords.withRecords(compression,
            new SimpleRecord(time + first, "key".getBytes(), ("value " + first).getBytes(), headers),
            new SimpleRecord(time + first + 1, null, "value".getBytes()),
            new SimpleRecord(time + first + 2, "tombstone".getBytes(), null));
    }

    static void data() throws Exception {
        Uuid id = topicId("data");
        Uuid other = topicId("other");
        each(ApiKeys.PRODUCE, v -> {
            var topic = new ProduceRequestData.TopicProduceData();
            if (v <= 12) topic.setName("data"); else topic.setTopicId(id);
            topic.setPartitionData(List.of(
                new ProduceRequestData.PartitionProduceData().setIndex(0).setRecords(records(Compression.NONE, v)),
                new ProduceRequestData.PartitionProduceData().setIndex(1)
                    .setRecords(records(Compression.gzip().build(), v)),
                new ProduceRequestData.PartitionProduceData().setIndex(99)
                    .setRecords(records(Compression.NONE, v))));
            var second = new ProduceRequestData.TopicProduceData();
            if (v <= 12) second.setName("other"); else second.setTopicId(other);
            // A compacted topic takes no record without a key: the answer names the records.
            second.setPartitionData(List.of(
                new ProduceRequestData.PartitionProduceData().setIndex(0).setRecords(records(Compression.NONE, v))));
            keep(ApiKeys.PRODUCE, v, new ProduceRequestData().setAcks((short) -1).setTimeoutMs(5000)
                .setTopicData(of(new ProduceRequestData.TopicProduceDataCollection(), topic, second)));
        });
        aborted("data", 2);
        each(ApiKeys.FETCH, v -> {
            var session = fetch(v, id, other, v >= 7 ? 0 : -1, 0);
            if (v >= 7 && session.sessionId() != 0) {
                var next = new FetchRequestData().setMaxWaitMs(10).setMinBytes(0)
                    .setSessionId(session.sessionId()).setSessionEpoch(1);
                var forget = new FetchRequestData.ForgottenTopic().setPartitions(List.of(0));
                if (v <= 12) forget.setTopic("data"); else forget.setTopicId(id);
                next.setForgottenTopicsData(List.of(forget));
                keep(ApiKeys.FETCH, v, next);
            }
        });
        each(ApiKeys.LIST_OFFSETS, v -> {
            var partitions = new ArrayList<ListOffsetsRequestData.ListOffsetsPartition>();
            long[] timestamps = {-1, -2, 1_700_000_000_005L, -3, -4, -5, -6};
            int[] since = {1, 1, 1, 7, 8, 9, 11};
            for (int i = 0; i < timestamps.length; i++) {
                if (v < since[i]) continue;
                // A partition may be asked once in a request.
                keep(ApiKeys.LIST_OFFSETS, v, listOffsets(v, "data", 0, timestamps[i]));
            }
            keep(ApiKeys.LIST_OFFSETS, v, listOffsets(v, "missing", 0, -1));
        });
        each(ApiKeys.OFFSET_FOR_LEADER_EPOCH, v -> {
            var partitions = List.of(
                new OffsetForLeaderEpochRequestData.OffsetForLeaderPartition().setPartition(0).setLeaderEpoch(0),
                new OffsetForLeaderEpochRequestData.OffsetForLeaderPartition().setPartition(9).setLeaderEpoch(0));
            var request = new OffsetForLeaderEpochRequestData().setTopics(
                of(new OffsetForLeaderEpochRequestData.OffsetForLeaderTopicCollection(),
                    new OffsetForLeaderEpochRequestData.OffsetForLeaderTopic().setTopic("data")
                        .setPartitions(partitions)));
            request.setReplicaId(v >= 3 ? -1 : -2);
            keep(ApiKeys.OFFSET_FOR_LEADER_EPOCH, v, request);
        });
        each(ApiKeys.DESCRIBE_PRODUCERS, v -> keep(ApiKeys.DESCRIBE_PRODUCERS, v, new DescribeProducersRequestData()
            .setTopics(List.of(new DescribeProducersRequestData.TopicRequest().setName("data")
                .setPartitionIndexes(List.of(2, 9))))));
        each(ApiKeys.INIT_PRODUCER_ID, v -> {
            keep(ApiKeys.INIT_PRODUCER_ID, v, new InitProducerIdRequestData().setTransactionTimeoutMs(60_000));
            keep(ApiKeys.INIT_PRODUCER_ID, v, new InitProducerIdRequestData().setTransactionalId("golden-init")
                .setTransactionTimeoutMs(60_000));
        });
        each(ApiKeys.DELETE_RECORDS, v -> {
            var partitions = List.of(
                new DeleteRecordsRequestData.DeleteRecordsPartition().setPartitionIndex(1).setOffset(2 + v),
                new DeleteRecordsRequestData.DeleteRecordsPartition().setPartitionIndex(0).setOffset(1_000_000));
            keep(ApiKeys.DELETE_RECORDS, v, new DeleteRecordsRequestData().setTimeoutMs(5000).setTopics(List.of(
                new DeleteRecordsRequestData.DeleteRecordsTopic().setName("data").setPartitions(partitions))));
        });
    }

    static ListOffsetsRequestData listOffsets(int version, String topic, int index, long timestamp) {
        var partition = new ListOffsetsRequestData.ListOffsetsPartition()
            .setPartitionIndex(index).setTimestamp(timestamp);
        var request = new ListOffsetsRequestData().setReplicaId(-1).setTopics(List.of(
            new ListOffsetsRequestData.ListOffsetsTopic().setName(topic).setPartitions(List.of(partition))));
        if (version >= 2) request.setIsolationLevel((byte) 1);
        if (version >= 10) request.setTimeoutMs(1000);
        return request;
    }

    static FetchResponseData fetch(int version, Uuid id, Uuid other, int sessionEpoch, int sessionId) throws Exception {
        var partitions = new ArrayList<FetchRequestData.FetchPartition>();
        for (int index = 0; index < 3; index++) {
            partitions.add(new FetchRequestData.FetchPartition().setPartition(index).setPartitionMaxBytes(300));
        }
        partitions.get(1).setFetchOffset(1_000_000);
        if (version >= 9) partitions.get(0).setCurrentLeaderEpoch(0);
        // The aborted transaction comes whole.
        partitions.get(2).setPartitionMaxBytes(2000);
        partitions.add(new FetchRequestData.FetchPartition().setPartition(77).setPartitionMaxBytes(300));
        var topic = new FetchRequestData.FetchTopic().setPartitions(partitions);
        var second = new FetchRequestData.FetchTopic().setPartitions(List.of(
            new FetchRequestData.FetchPartition().setPartition(0).setPartitionMaxBytes(300)));
        if (version <= 12) {
            topic.setTopic("data");
            second.setTopic("other");
        } else {
            topic.setTopicId(id);
            second.setTopicId(other);
        }
        var request = new FetchRequestData().setMaxWaitMs(10).setMinBytes(1).setMaxBytes(4000)
            .setIsolationLevel((byte) 1).setTopics(List.of(topic, second));
        if (version >= 7) request.setSessionEpoch(sessionEpoch).setSessionId(sessionId);
        if (version >= 11) request.setRackId("rack-a");
        return keep(ApiKeys.FETCH, version, request);
    }

    /** Leaves an aborted and a committed transaction in a partition. */
    static void aborted(String topic, int partition) {
        Map<String, Object> config = Map.of("bootstrap.servers", host + ":" + port, "transactional.id", "golden-tx",
            "key.serializer", StringSerializer.class, "value.serializer", StringSerializer.class);
        try (var producer = new KafkaProducer<String, String>(config)) {
            producer.initTransactions();
            for (boolean commit : new boolean[] {false, true}) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, partition, 1_700_000_000_000L, "k", "in a transaction"));
                producer.flush();
                if (commit) producer.commitTransaction(); else producer.abortTransaction();
            }
        }
    }

    static void admin() throws Exception {
        each(ApiKeys.CREATE_TOPICS, v -> {
            var assigned = new CreateTopicsRequestData.CreatableTopic().setName("assigned-" + v)
                .setNumPartitions(-1).setReplicationFactor((short) -1)
                .setAssignments(of(new CreateTopicsRequestData.CreatableReplicaAssignmentCollection(),
                    new CreateTopicsRequestData.CreatableReplicaAssignment().setPartitionIndex(0)
                        .setBrokerIds(List.of(1))));
            var configured = new CreateTopicsRequestData.CreatableTopic().setName("created-" + v)
                .setNumPartitions(2).setReplicationFactor((short) 1)
                .setConfigs(of(new CreateTopicsRequestData.CreatableTopicConfigCollection(),
                    new CreateTopicsRequestData.CreatableTopicConfig().setName("retention.ms").setValue("60000")));
            var existing = new CreateTopicsRequestData.CreatableTopic().setName("data")
                .setNumPartitions(1).setReplicationFactor((short) 1);
            var invalid = new CreateTopicsRequestData.CreatableTopic().setName("not/valid")
                .setNumPartitions(1).setReplicationFactor((short) 1);
            keep(ApiKeys.CREATE_TOPICS, v, new CreateTopicsRequestData().setTimeoutMs(10_000)
                .setTopics(of(new CreateTopicsRequestData.CreatableTopicCollection(),
                    assigned, configured, existing, invalid)));
        });
        each(ApiKeys.CREATE_PARTITIONS, v -> {
            var grown = new CreatePartitionsRequestData.CreatePartitionsTopic().setName("created-2")
                .setCount(3 + v).setAssignments(null);
            var assigned = new CreatePartitionsRequestData.CreatePartitionsTopic().setName("assigned-2")
                .setCount(2 + v).setAssignments(List.of(
                    new CreatePartitionsRequestData.CreatePartitionsAssignment().setBrokerIds(List.of(1))));
            var shrunk = new CreatePartitionsRequestData.CreatePartitionsTopic().setName("data")
                .setCount(1).setAssignments(null);
            keep(ApiKeys.CREATE_PARTITIONS, v, new CreatePartitionsRequestData().setTimeoutMs(10_000)
                .setTopics(of(new CreatePartitionsRequestData.CreatePartitionsTopicCollection(),
                    grown, assigned, shrunk)));
        });
        each(ApiKeys.DELETE_TOPICS, v -> {
            String name = "assigned-" + Math.max(v, 2);
            var request = new DeleteTopicsRequestData().setTimeoutMs(10_000);
            if (v <= 5) {
                request.setTopicNames(List.of(name, "missing"));
            } else {
                request.setTopics(List.of(
                    new DeleteTopicsRequestData.DeleteTopicState().setName(name),
                    new DeleteTopicsRequestData.DeleteTopicState().setName(null).setTopicId(topicId("created-6")),
                    new DeleteTopicsRequestData.DeleteTopicState().setName(null).setTopicId(new Uuid(3, 4))));
            }
            keep(ApiKeys.DELETE_TOPICS, v, request);
        });
        each(ApiKeys.DESCRIBE_CONFIGS, v -> {
            var some = new DescribeConfigsRequestData.DescribeConfigsResource().setResourceType((byte) 2)
                .setResourceName("data").setConfigurationKeys(List.of("retention.ms", "cleanup.policy"));
            var broker = new DescribeConfigsRequestData.DescribeConfigsResource().setResourceType((byte) 4)
                .setResourceName("1").setConfigurationKeys(List.of("log.retention.ms", "listeners", "ssl.key.password"));
            var missing = new DescribeConfigsRequestData.DescribeConfigsResource().setResourceType((byte) 2)
                .setResourceName("missing").setConfigurationKeys(null);
            var request = new DescribeConfigsRequestData().setResources(List.of(some, broker, missing))
                .setIncludeSynonyms(true);
            if (v >= 3) request.setIncludeDocumentation(true);
            keep(ApiKeys.DESCRIBE_CONFIGS, v, request);
            var all = new DescribeConfigsRequestData.DescribeConfigsResource().setResourceType((byte) 2)
                .setResourceName("data").setConfigurationKeys(null);
            keep(ApiKeys.DESCRIBE_CONFIGS, v, new DescribeConfigsRequestData().setResources(List.of(all)));
        });
        each(ApiKeys.ALTER_CONFIGS, v -> {
            var good = new AlterConfigsRequestData.AlterConfigsResource().setResourceType((byte) 2)
                .setResourceName("created-3").setConfigs(of(new AlterConfigsRequestData.AlterableConfigCollection(),
                    new AlterConfigsRequestData.AlterableConfig().setName("retention.ms").setValue("70000")));
            var bad = new AlterConfigsRequestData.AlterConfigsResource().setResourceType((byte) 2)
                .setResourceName("created-4").setConfigs(of(new AlterConfigsRequestData.AlterableConfigCollection(),
                    new AlterConfigsRequestData.AlterableConfig().setName("no.such.config").setValue(null)));
            keep(ApiKeys.ALTER_CONFIGS, v, new AlterConfigsRequestData()
                .setResources(of(new AlterConfigsRequestData.AlterConfigsResourceCollection(), good, bad)));
        });
        each(ApiKeys.INCREMENTAL_ALTER_CONFIGS, v -> {
            var good = new IncrementalAlterConfigsRequestData.AlterConfigsResource().setResourceType((byte) 2)
                .setResourceName("created-3").setConfigs(
                    of(new IncrementalAlterConfigsRequestData.AlterableConfigCollection(),
                        new IncrementalAlterConfigsRequestData.AlterableConfig().setName("cleanup.policy")
                            .setConfigOperation((byte) 2).setValue("compact"),
                        new IncrementalAlterConfigsRequestData.AlterableConfig().setName("retention.ms")
                            .setConfigOperation((byte) 1).setValue(null)));
            var bad = new IncrementalAlterConfigsRequestData.AlterConfigsResource().setResourceType((byte) 2)
                .setResourceName("created-4").setConfigs(
                    of(new IncrementalAlterConfigsRequestData.AlterableConfigCollection(),
                        new IncrementalAlterConfigsRequestData.AlterableConfig().setName("segment.bytes")
                            .setConfigOperation((byte) 0).setValue("many")));
            keep(ApiKeys.INCREMENTAL_ALTER_CONFIGS, v, new IncrementalAlterConfigsRequestData()
                .setResources(of(new IncrementalAlterConfigsRequestData.AlterConfigsResourceCollection(), good, bad)));
        });
        each(ApiKeys.LIST_CONFIG_RESOURCES, v -> keep(ApiKeys.LIST_CONFIG_RESOURCES, v,
            new ListConfigResourcesRequestData().setResourceTypes(v == 0 ? List.of() : List.of((byte) 2, (byte) 4))));
        each(ApiKeys.DESCRIBE_LOG_DIRS, v -> {
            keep(ApiKeys.DESCRIBE_LOG_DIRS, v, new DescribeLogDirsRequestData().setTopics(
                of(new DescribeLogDirsRequestData.DescribableLogDirTopicCollection(),
                    new DescribeLogDirsRequestData.DescribableLogDirTopic().setTopic("data")
                        .setPartitions(List.of(0, 1, 9)))));
            keep(ApiKeys.DESCRIBE_LOG_DIRS, v, new DescribeLogDirsRequestData().setTopics(null));
        });
    }

    // --- groups ---

    static final byte[] SUBSCRIPTION = HEX.parseHex("0000" + "00000001" + "0004" + "64617461" + "ffffffff");
    static final byte[] ASSIGNMENT =
        HEX.parseHex("0000" + "00000001" + "0004" + "64617461" + "00000001" + "00000000" + "ffffffff");

    static JoinGroupRequestData joining(int version, String group, String member, String instance) {
        var request = new JoinGroupRequestData().setGroupId(group).setSessionTimeoutMs(30_000).setMemberId(member)
            .setProtocolType("consumer").setProtocols(
                of(new JoinGroupRequestData.JoinGroupRequestProtocolCollection(),
                    new JoinGroupRequestData.JoinGroupRequestProtocol().setName("range").setMetadata(SUBSCRIPTION)));
        if (version >= 1) request.setRebalanceTimeoutMs(30_000);
        if (version >= 5) request.setGroupInstanceId(instance);
        if (version >= 8) request.setReason("golden");
        return request;
    }

    static SyncGroupRequestData syncing(int version, String group, JoinGroupResponseData joined, String instance) {
        var request = new SyncGroupRequestData().setGroupId(group).setGenerationId(joined.generationId())
            .setMemberId(joined.memberId()).setAssignments(List.of(
                new SyncGroupRequestData.SyncGroupRequestAssignment().setMemberId(joined.memberId())
                    .setAssignment(ASSIGNMENT)));
        if (version >= 3) request.setGroupInstanceId(instance);
        if (version >= 5) request.setProtocolType("consumer").setProtocolName("range");
        return request;
    }

    /** A static member of a new, stable group. */
    static JoinGroupResponseData stable(String group) throws Exception {
        JoinGroupResponseData joined = ask(ApiKeys.JOIN_GROUP, 9, joining(9, group, "", "instance"));
        ask(ApiKeys.SYNC_GROUP, 5, syncing(5, group, joined, "instance"));
        return joined;
    }

    static void groups() throws Exception {
        each(ApiKeys.FIND_COORDINATOR, v -> {
            for (int attempt = 0; ; attempt++) {
                FindCoordinatorResponseData answer = ask(ApiKeys.FIND_COORDINATOR, 2,
                    new FindCoordinatorRequestData().setKey("golden"));
                if (answer.errorCode() == 0) break;
                if (attempt > 1_000_000) throw new IllegalStateException("no coordinator");
            }
            var request = new FindCoordinatorRequestData();
            if (v <= 3) request.setKey("golden"); else request.setCoordinatorKeys(List.of("golden", "b", ""));
            keep(ApiKeys.FIND_COORDINATOR, v, request);
            var transaction = new FindCoordinatorRequestData();
            if (v <= 3) transaction.setKey("golden-tx"); else transaction.setCoordinatorKeys(List.of("golden-tx"));
            if (v >= 1) keep(ApiKeys.FIND_COORDINATOR, v, transaction.setKeyType((byte) 1));
        });
        each(ApiKeys.JOIN_GROUP, v -> {
            String group = "join-" + v;
            JoinGroupResponseData joined = keep(ApiKeys.JOIN_GROUP, v, joining(v, group, "", null));
            if (joined.errorCode() != 0) {
                keep(ApiKeys.JOIN_GROUP, v, joining(v, group, joined.memberId(), null));
            }
            keep(ApiKeys.JOIN_GROUP, v, joining(v, group, "nobody", null));
            if (v >= 5) keep(ApiKeys.JOIN_GROUP, v, joining(v, group + "-static", "", "instance"));
        });
        each(ApiKeys.SYNC_GROUP, v -> {
            String group = "sync-" + v;
            JoinGroupResponseData joined = ask(ApiKeys.JOIN_GROUP, 9, joining(9, group, "", "instance"));
            keep(ApiKeys.SYNC_GROUP, v, syncing(v, group, joined, "instance"));
            keep(ApiKeys.SYNC_GROUP, v, syncing(v, group, joined.setGenerationId(9), "instance"));
        });
        each(ApiKeys.HEARTBEAT, v -> {
            String group = "heartbeat-" + v;
            JoinGroupResponseData joined = stable(group);
            var request = new HeartbeatRequestData().setGroupId(group).setGenerationId(joined.generationId())
                .setMemberId(joined.memberId());
            if (v >= 3) request.setGroupInstanceId("instance");
            keep(ApiKeys.HEARTBEAT, v, request);
            keep(ApiKeys.HEARTBEAT, v, request.setGenerationId(9));
        });
        each(ApiKeys.LEAVE_GROUP, v -> {
            String group = "leave-" + v;
            JoinGroupResponseData joined = stable(group);
            var request = new LeaveGroupRequestData().setGroupId(group);
            if (v <= 2) {
                request.setMemberId(joined.memberId());
            } else {
                var member = new LeaveGroupRequestData.MemberIdentity().setGroupInstanceId("instance");
                if (v >= 5) member.setReason("golden");
                request.setMembers(List.of(member, new LeaveGroupRequestData.MemberIdentity().setMemberId("nobody")));
            }
            keep(ApiKeys.LEAVE_GROUP, v, request);
        });
        Uuid id = topicId("data");
        each(ApiKeys.OFFSET_COMMIT, v -> {
            var topic = new OffsetCommitRequestData.OffsetCommitRequestTopic();
            if (v <= 9) topic.setName("data"); else topic.setTopicId(id);
            var first = new OffsetCommitRequestData.OffsetCommitRequestPartition().setPartitionIndex(0)
                .setCommittedOffset(5).setCommittedMetadata("note");
            if (v >= 6) first.setCommittedLeaderEpoch(0);
            var unknown = new OffsetCommitRequestData.OffsetCommitRequestPartition().setPartitionIndex(9)
                .setCommittedOffset(1).setCommittedMetadata(null);
            topic.setPartitions(List.of(first, unknown));
            keep(ApiKeys.OFFSET_COMMIT, v, new OffsetCommitRequestData().setGroupId("offsets")
                .setTopics(List.of(topic)));
        });
        each(ApiKeys.OFFSET_FETCH, v -> {
            if (v <= 7) {
                var topic = new OffsetFetchRequestData.OffsetFetchRequestTopic().setName("data")
                    .setPartitionIndexes(List.of(0, 1));
                var request = new OffsetFetchRequestData().setGroupId("offsets").setTopics(List.of(topic));
                if (v >= 7) request.setRequireStable(true);
                keep(ApiKeys.OFFSET_FETCH, v, request);
                if (v >= 2) keep(ApiKeys.OFFSET_FETCH, v, new OffsetFetchRequestData().setGroupId("offsets").setTopics(null));
                return;
            }
            var topics = new OffsetFetchRequestData.OffsetFetchRequestTopics().setPartitionIndexes(List.of(0, 1));
            if (v <= 9) topics.setName("data"); else topics.setTopicId(id);
            keep(ApiKeys.OFFSET_FETCH, v, new OffsetFetchRequestData().setGroups(List.of(
                new OffsetFetchRequestData.OffsetFetchRequestGroup().setGroupId("offsets").setTopics(List.of(topics)),
                new OffsetFetchRequestData.OffsetFetchRequestGroup().setGroupId("offsets-all").setTopics(null),
                new OffsetFetchRequestData.OffsetFetchRequestGroup().setGroupId("offsets").setTopics(null))));
        });
        stable("stable");
        each(ApiKeys.LIST_GROUPS, v -> {
            if (v < 4) keep(ApiKeys.LIST_GROUPS, v, new ListGroupsRequestData());
            if (v >= 4) keep(ApiKeys.LIST_GROUPS, v, new ListGroupsRequestData().setStatesFilter(List.of("Stable", "Empty")));
            if (v >= 5) keep(ApiKeys.LIST_GROUPS, v, new ListGroupsRequestData().setTypesFilter(List.of("classic")));
        });
        each(ApiKeys.DESCRIBE_GROUPS, v -> {
            var request = new DescribeGroupsRequestData().setGroups(List.of("stable", "offsets", "missing"));
            if (v >= 3) request.setIncludeAuthorizedOperations(true);
            keep(ApiKeys.DESCRIBE_GROUPS, v, request);
        });
        each(ApiKeys.OFFSET_DELETE, v -> keep(ApiKeys.OFFSET_DELETE, v, new OffsetDeleteRequestData()
            .setGroupId("offsets").setTopics(of(new OffsetDeleteRequestData.OffsetDeleteRequestTopicCollection(),
                new OffsetDeleteRequestData.OffsetDeleteRequestTopic().setName("data").setPartitions(List.of(
                    new OffsetDeleteRequestData.OffsetDeleteRequestPartition().setPartitionIndex(0),
                    new OffsetDeleteRequestData.OffsetDeleteRequestPartition().setPartitionIndex(9)))))));
        each(ApiKeys.DELETE_GROUPS, v -> keep(ApiKeys.DELETE_GROUPS, v, new DeleteGroupsRequestData()
            .setGroupsNames(List.of("leave-" + v, "stable", "missing"))));
    }

    // --- transactions ---

    static void transactions() throws Exception {
        each(ApiKeys.ADD_PARTITIONS_TO_TXN, v -> {
            // From version 4 on only brokers may ask.
            if (v > 3) return;
            long id = producer("tx-" + v).producerId();
            for (int partition : new int[] {0, 9}) {
                var topic = new AddPartitionsToTxnRequestData.AddPartitionsToTxnTopic().setName("data")
                    .setPartitions(List.of(partition));
                keep(ApiKeys.ADD_PARTITIONS_TO_TXN, v, new AddPartitionsToTxnRequestData()
                    .setV3AndBelowTransactionalId("tx-" + v).setV3AndBelowProducerId(id)
                    .setV3AndBelowProducerEpoch((short) 0).setV3AndBelowTopics(
                        of(new AddPartitionsToTxnRequestData.AddPartitionsToTxnTopicCollection(), topic)));
            }
        });
        each(ApiKeys.ADD_OFFSETS_TO_TXN, v -> {
            var producer = producer("tx-offsets-" + v);
            keep(ApiKeys.ADD_OFFSETS_TO_TXN, v, new AddOffsetsToTxnRequestData().setTransactionalId("tx-offsets-" + v)
                .setProducerId(producer.producerId()).setProducerEpoch(producer.producerEpoch()).setGroupId("tx-group"));
        });
        each(ApiKeys.TXN_OFFSET_COMMIT, v -> {
            var producer = producer("tx-commit-" + v);
            ask(ApiKeys.ADD_OFFSETS_TO_TXN, 3, new AddOffsetsToTxnRequestData().setTransactionalId("tx-commit-" + v)
                .setProducerId(producer.producerId()).setProducerEpoch(producer.producerEpoch()).setGroupId("tx-group"));
            var partition = new TxnOffsetCommitRequestData.TxnOffsetCommitRequestPartition().setPartitionIndex(0)
                .setCommittedOffset(3).setCommittedMetadata("note");
            keep(ApiKeys.TXN_OFFSET_COMMIT, v, new TxnOffsetCommitRequestData().setTransactionalId("tx-commit-" + v)
                .setGroupId("tx-group").setProducerId(producer.producerId()).setProducerEpoch(producer.producerEpoch())
                .setTopics(List.of(new TxnOffsetCommitRequestData.TxnOffsetCommitRequestTopic().setName("data")
                    .setPartitions(List.of(partition)))));
        });
        each(ApiKeys.DESCRIBE_TRANSACTIONS, v -> keep(ApiKeys.DESCRIBE_TRANSACTIONS, v,
            new DescribeTransactionsRequestData().setTransactionalIds(List.of("tx-3", "golden-tx", "missing"))));
        each(ApiKeys.LIST_TRANSACTIONS, v -> {
            var request = new ListTransactionsRequestData().setStateFilters(List.of("Ongoing", "Nonsense"));
            if (v >= 1) request.setDurationFilter(0);
            if (v >= 2) request.setTransactionalIdPattern("tx-.*");
            keep(ApiKeys.LIST_TRANSACTIONS, v, request);
        });
        each(ApiKeys.END_TXN, v -> {
            var producer = producer("tx-end-" + v);
            var topic = new AddPartitionsToTxnRequestData.AddPartitionsToTxnTopic().setName("data")
                .setPartitions(List.of(0));
            ask(ApiKeys.ADD_PARTITIONS_TO_TXN, 3, new AddPartitionsToTxnRequestData()
                .setV3AndBelowTransactionalId("tx-end-" + v).setV3AndBelowProducerId(producer.producerId())
                .setV3AndBelowProducerEpoch(producer.producerEpoch())
                .setV3AndBelowTopics(of(new AddPartitionsToTxnRequestData.AddPartitionsToTxnTopicCollection(), topic)));
            keep(ApiKeys.END_TXN, v, new EndTxnRequestData().setTransactionalId("tx-end-" + v)
                .setProducerId(producer.producerId()).setProducerEpoch(producer.producerEpoch()).setCommitted(v % 2 == 0));
        });
    }

    static InitProducerIdResponseData producer(String transactionalId) throws Exception {
        while (true) {
            InitProducerIdResponseData answer = ask(ApiKeys.INIT_PRODUCER_ID, 5, new InitProducerIdRequestData()
                .setTransactionalId(transactionalId).setTransactionTimeoutMs(60_000));
            if (answer.errorCode() == 0) return answer;
        }
    }

    // --- what is served later ---

    static void rest() throws Exception {
        String memberId = Uuid.randomUuid().toString();
        each(ApiKeys.CONSUMER_GROUP_HEARTBEAT, v -> {
            var request = new ConsumerGroupHeartbeatRequestData().setGroupId("modern-" + v).setMemberId(memberId)
                .setRebalanceTimeoutMs(30_000).setSubscribedTopicNames(List.of("data")).setServerAssignor("uniform")
                .setTopicPartitions(List.of());
            keep(ApiKeys.CONSUMER_GROUP_HEARTBEAT, v, request);
            keep(ApiKeys.CONSUMER_GROUP_HEARTBEAT, v, new ConsumerGroupHeartbeatRequestData().setGroupId("modern-" + v)
                .setMemberId(memberId).setMemberEpoch(77));
        });
        each(ApiKeys.CONSUMER_GROUP_DESCRIBE, v -> keep(ApiKeys.CONSUMER_GROUP_DESCRIBE, v,
            new ConsumerGroupDescribeRequestData().setGroupIds(List.of("modern-0", "missing"))
                .setIncludeAuthorizedOperations(true)));
        var entity = new AlterClientQuotasRequestData.EntityData().setEntityType("user").setEntityName("ann");
        each(ApiKeys.ALTER_CLIENT_QUOTAS, v -> keep(ApiKeys.ALTER_CLIENT_QUOTAS, v, new AlterClientQuotasRequestData()
            .setEntries(List.of(new AlterClientQuotasRequestData.EntryData().setEntity(List.of(entity)).setOps(List.of(
                new AlterClientQuotasRequestData.OpData().setKey("producer_byte_rate").setValue(1234.5)))))));
        each(ApiKeys.DESCRIBE_CLIENT_QUOTAS, v -> keep(ApiKeys.DESCRIBE_CLIENT_QUOTAS, v,
            new DescribeClientQuotasRequestData().setComponents(List.of(
                new DescribeClientQuotasRequestData.ComponentData().setEntityType("user").setMatchType((byte) 2)
                    .setMatch(null)))));
        each(ApiKeys.ALTER_USER_SCRAM_CREDENTIALS, v -> keep(ApiKeys.ALTER_USER_SCRAM_CREDENTIALS, v,
            new AlterUserScramCredentialsRequestData().setUpsertions(List.of(
                new AlterUserScramCredentialsRequestData.ScramCredentialUpsertion().setName("ann")
                    .setMechanism((byte) 1).setIterations(4096).setSalt(new byte[] {1, 2, 3})
                    .setSaltedPassword(new byte[32])))));
        each(ApiKeys.DESCRIBE_USER_SCRAM_CREDENTIALS, v -> keep(ApiKeys.DESCRIBE_USER_SCRAM_CREDENTIALS, v,
            new DescribeUserScramCredentialsRequestData().setUsers(null)));
        each(ApiKeys.CREATE_ACLS, v -> keep(ApiKeys.CREATE_ACLS, v, new CreateAclsRequestData().setCreations(List.of(
            new CreateAclsRequestData.AclCreation().setResourceType((byte) 2).setResourceName("acl-" + v)
                .setResourcePatternType((byte) 3).setPrincipal("User:ann").setHost("*").setOperation((byte) 3)
                .setPermissionType((byte) 3)))));
        each(ApiKeys.DESCRIBE_ACLS, v -> keep(ApiKeys.DESCRIBE_ACLS, v, new DescribeAclsRequestData()
            .setResourceTypeFilter((byte) 2).setPatternTypeFilter((byte) 1).setOperation((byte) 1)
            .setPermissionType((byte) 1)));
        each(ApiKeys.DELETE_ACLS, v -> keep(ApiKeys.DELETE_ACLS, v, new DeleteAclsRequestData().setFilters(List.of(
            new DeleteAclsRequestData.DeleteAclsFilter().setResourceTypeFilter((byte) 2)
                .setResourceNameFilter("acl-" + v).setPatternTypeFilter((byte) 3).setOperation((byte) 1)
                .setPermissionType((byte) 1)))));
        each(ApiKeys.ELECT_LEADERS, v -> keep(ApiKeys.ELECT_LEADERS, v, new ElectLeadersRequestData()
            .setTimeoutMs(5000).setTopicPartitions(of(new ElectLeadersRequestData.TopicPartitionsCollection(),
                new ElectLeadersRequestData.TopicPartitions().setTopic("data").setPartitions(List.of(0, 9))))));
        each(ApiKeys.ALTER_PARTITION_REASSIGNMENTS, v -> keep(ApiKeys.ALTER_PARTITION_REASSIGNMENTS, v,
            new AlterPartitionReassignmentsRequestData().setTopics(List.of(
                new AlterPartitionReassignmentsRequestData.ReassignableTopic().setName("data").setPartitions(List.of(
                    new AlterPartitionReassignmentsRequestData.ReassignablePartition().setPartitionIndex(0)
                        .setReplicas(List.of(1)),
                    new AlterPartitionReassignmentsRequestData.ReassignablePartition().setPartitionIndex(1)
                        .setReplicas(null)))))));
        each(ApiKeys.LIST_PARTITION_REASSIGNMENTS, v -> keep(ApiKeys.LIST_PARTITION_REASSIGNMENTS, v,
            new ListPartitionReassignmentsRequestData().setTopics(null)));
        each(ApiKeys.UPDATE_FEATURES, v -> {
            var update = new UpdateFeaturesRequestData.FeatureUpdateKey().setFeature("group.version")
                .setMaxVersionLevel((short) 99);
            var request = new UpdateFeaturesRequestData()
                .setFeatureUpdates(of(new UpdateFeaturesRequestData.FeatureUpdateKeyCollection(), update));
            if (v >= 1) request.setValidateOnly(true);
            keep(ApiKeys.UPDATE_FEATURES, v, request);
        });
        each(ApiKeys.SASL_HANDSHAKE, v -> {
            keep(ApiKeys.SASL_HANDSHAKE, v, new SaslHandshakeRequestData().setMechanism("PLAIN"));
        });
        each(ApiKeys.GET_TELEMETRY_SUBSCRIPTIONS, v -> keep(ApiKeys.GET_TELEMETRY_SUBSCRIPTIONS, v,
            new GetTelemetrySubscriptionsRequestData()));
    }
}
