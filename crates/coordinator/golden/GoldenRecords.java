// Prints the golden bytes of testdata/golden_records.txt with Apache Kafka's own classes:
//   java -cp 'KAFKA_LIBS/*' GoldenRecords.java > ../testdata/golden_records.txt
// Each line: name, key as hex, value as hex ("-" for a tombstone).

import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.coordinator.group.GroupCoordinatorRecordSerde;
import org.apache.kafka.coordinator.group.generated.GroupMetadataKey;
import org.apache.kafka.coordinator.group.generated.GroupMetadataValue;
import org.apache.kafka.coordinator.group.generated.GroupMetadataValue.MemberMetadata;
import org.apache.kafka.coordinator.group.generated.LegacyOffsetCommitKey;
import org.apache.kafka.coordinator.group.generated.OffsetCommitKey;
import org.apache.kafka.coordinator.group.generated.OffsetCommitValue;
import org.apache.kafka.server.common.ApiMessageAndVersion;

public class GoldenRecords {
    static final GroupCoordinatorRecordSerde SERDE = new GroupCoordinatorRecordSerde();

    static void print(String name, CoordinatorRecord record) {
        byte[] value = SERDE.serializeValue(record);
        System.out.println(name + " " + HexFormat.of().formatHex(SERDE.serializeKey(record)) + " "
            + (value == null ? "-" : HexFormat.of().formatHex(value)));
    }

    static OffsetCommitKey offsetKey() {
        return new OffsetCommitKey().setGroup("orders-app").setTopic("orders").setPartition(7);
    }

    static OffsetCommitValue offsetValue() {
        return new OffsetCommitValue().setOffset(4711L).setMetadata("note äö").setCommitTimestamp(1700000000123L);
    }

    static GroupMetadataValue group(int version) {
        MemberMetadata dynamic = new MemberMetadata().setMemberId("client-1-0001").setClientId("client-1")
            .setClientHost("/127.0.0.1").setSessionTimeout(45000)
            .setSubscription(new byte[] {0, 1, 2, 3}).setAssignment(new byte[] {9, 8});
        MemberMetadata other = new MemberMetadata().setMemberId("instance-a-0002").setClientId("client-2")
            .setClientHost("/10.0.0.2").setSessionTimeout(10000)
            .setSubscription(new byte[] {5}).setAssignment(new byte[0]);
        if (version >= 1) {
            dynamic.setRebalanceTimeout(300000);
            other.setRebalanceTimeout(60000);
        }
        if (version >= 3) other.setGroupInstanceId("instance-a");
        GroupMetadataValue value = new GroupMetadataValue().setProtocolType("consumer").setGeneration(3)
            .setProtocol("range").setLeader("client-1-0001").setMembers(List.of(dynamic, other));
        if (version >= 2) value.setCurrentStateTimestamp(1700000000456L);
        return value;
    }

    public static void main(String[] args) {
        for (short version = 0; version <= 4; version++) {
            OffsetCommitValue value = offsetValue();
            if (version == 1) value.setExpireTimestamp(1700000600123L);
            if (version >= 3) value.setLeaderEpoch(12);
            print("offset_commit_v" + version,
                CoordinatorRecord.record(offsetKey(), new ApiMessageAndVersion(value, version)));
        }
        print("offset_commit_v4_topic_id", CoordinatorRecord.record(offsetKey(), new ApiMessageAndVersion(
            offsetValue().setLeaderEpoch(12).setTopicId(Uuid.fromString("Rm9vQmFyQmF6UXV4MTIzNA")), (short) 4)));
        print("offset_commit_v4_long_metadata", CoordinatorRecord.record(offsetKey(), new ApiMessageAndVersion(
            offsetValue().setMetadata("m".repeat(300)), (short) 4)));
        print("offset_commit_legacy_key", CoordinatorRecord.record(
            new LegacyOffsetCommitKey().setGroup("old").setTopic("t").setPartition(0),
            new ApiMessageAndVersion(new org.apache.kafka.coordinator.group.generated.LegacyOffsetCommitValue()
                .setOffset(5L).setMetadata("").setCommitTimestamp(6L), (short) 0)));
        print("offset_commit_tombstone", CoordinatorRecord.tombstone(offsetKey()));
        for (short version = 0; version <= 4; version++) {
            print("group_metadata_v" + version, CoordinatorRecord.record(
                new GroupMetadataKey().setGroup("orders-app"), new ApiMessageAndVersion(group(version), version)));
        }
        print("group_metadata_v3_empty", CoordinatorRecord.record(
            new GroupMetadataKey().setGroup("orders-app"), new ApiMessageAndVersion(new GroupMetadataValue()
                .setProtocolType("consumer").setGeneration(4).setProtocol(null).setLeader(null)
                .setCurrentStateTimestamp(1700000000789L).setMembers(List.of()), (short) 3)));
        print("group_metadata_tombstone", CoordinatorRecord.tombstone(new GroupMetadataKey().setGroup("orders-app")));
    }
}
