// Writes the golden batches of the record crate with Apache Kafka's own code, and reads batches back with it.
//
//   javac -cp 'LIBS/*' -d OUT Golden.java && java -cp 'OUT:LIBS/*' Golden write > ../testdata/golden.txt
//   java -cp 'OUT:LIBS/*' Golden read < batches.txt      (lines of "name hex"; prints the records Kafka sees)

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;

public class Golden {
    static final long BASE = 1_700_000_000_000L;

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static MemoryRecordsBuilder builder(Compression compression, TimestampType type, long producerId, boolean transactional) {
        boolean idempotent = producerId >= 0;
        return MemoryRecords.builder(ByteBuffer.allocate(1 << 20), RecordBatch.MAGIC_VALUE_V2, compression, type, 0L,
            type == TimestampType.LOG_APPEND_TIME ? BASE + 999 : RecordBatch.NO_TIMESTAMP, producerId,
            idempotent ? (short) 3 : RecordBatch.NO_PRODUCER_EPOCH, idempotent ? 41 : RecordBatch.NO_SEQUENCE,
            transactional, false, RecordBatch.NO_PARTITION_LEADER_EPOCH);
    }

    static void print(String name, MemoryRecords records) {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] out = new byte[buffer.remaining()];
        buffer.get(out);
        System.out.println(name + " " + HexFormat.of().formatHex(out));
    }

    static void small(MemoryRecordsBuilder builder) {
        builder.append(BASE, bytes("key"), bytes("value"));
        builder.append(BASE + 70_000, (byte[]) null, bytes("no key"));
        builder.append(BASE - 5, bytes("tombstone"), (byte[]) null);
        builder.append(BASE + 1, (byte[]) null, (byte[]) null, new Header[] {
            new RecordHeader("h", bytes("v")), new RecordHeader("null", null), new RecordHeader("h", new byte[0]),
        });
        builder.append(BASE + 2, new byte[0], new byte[0]);
    }

    static void write() {
        for (CompressionType type : CompressionType.values()) {
            Compression compression = Compression.of(type).build();
            MemoryRecordsBuilder builder = builder(compression, TimestampType.CREATE_TIME, -1, false);
            small(builder);
            print("small-" + type.name, builder.build());

            // Past one block of every codec, with repetition at a distance.
            builder = builder(compression, TimestampType.CREATE_TIME, -1, false);
            for (int i = 0; i < 1500; i++) {
                builder.append(BASE + i, bytes("key-" + i % 7), bytes("value number " + i + " of a batch of many ".repeat(3)));
            }
            if (type != CompressionType.NONE) {
                print("large-" + type.name, builder.build());
            }
        }
        MemoryRecordsBuilder builder = builder(Compression.NONE, TimestampType.LOG_APPEND_TIME, -1, false);
        small(builder);
        print("log-append-time", builder.build());
        builder = builder(Compression.NONE, TimestampType.CREATE_TIME, 4000, false);
        small(builder);
        print("idempotent", builder.build());
        builder = builder(Compression.NONE, TimestampType.CREATE_TIME, 4000, true);
        small(builder);
        print("transactional", builder.build());
        for (ControlRecordType type : new ControlRecordType[] {ControlRecordType.COMMIT, ControlRecordType.ABORT}) {
            print("marker-" + type.name().toLowerCase(), MemoryRecords.withEndTransactionMarker(0L, BASE, -1, 4000L,
                (short) 3, new EndTransactionMarker(type, 12)));
        }
    }

    static String text(ByteBuffer field) {
        if (field == null) {
            return "null";
        }
        byte[] out = new byte[field.remaining()];
        field.duplicate().get(out);
        return "\"" + new String(out, StandardCharsets.UTF_8) + "\"";
    }

    static void read() throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null;) {
            String[] parts = line.split(" ");
            MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(HexFormat.of().parseHex(parts[1])));
            for (MutableRecordBatch batch : records.batches()) {
                batch.ensureValid();
                int count = 0;
                long bytes = 0;
                StringBuilder first = new StringBuilder();
                for (Record record : batch) {
                    record.ensureValid();
                    bytes += record.sizeInBytes();
                    if (count++ < 5) {
                        first.append(' ').append(record.offset()).append('@').append(record.timestamp()).append(' ')
                            .append(text(record.key())).append('=').append(text(record.value()));
                    }
                }
                System.out.println(parts[0] + " " + batch.compressionType() + " " + count + " records " + bytes + " bytes" + first);
            }
        }
    }

    public static void main(String[] args) throws Exception {
        if (args.length == 1 && args[0].equals("read")) {
            read();
        } else {
            write();
        }
    }
}
