package compat;

import static compat.Clients.*;
import static compat.Harness.*;

import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigType;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Configurations of topics and brokers, as Admin sees them. */
final class AdminConfigs {
    private AdminConfigs() {}

    static void claims(Harness h) {
        h.claim("describeConfigs of a topic: values, sources, types, documentation", AdminConfigs::describeTopic);
        h.claim("describeConfigs with synonyms names where a value comes from", AdminConfigs::synonyms);
        h.claim("describeConfigs of a broker knows its settings and which are read-only", AdminConfigs::describeBroker);
        h.claim("incrementalAlterConfigs: set, delete, append, subtract", AdminConfigs::alter);
        h.claim("unknown and invalid configs are refused and change nothing", AdminConfigs::refusals);
        h.claim("incrementalAlterConfigs with validateOnly changes nothing", AdminConfigs::validateOnly);
        h.claim("a changed max.message.bytes is obeyed at once", AdminConfigs::effect);
        h.claim("a dynamic default of all brokers shows in topics and can be taken back", AdminConfigs::dynamicDefault);
        h.claim("config resources are listed by type", AdminConfigs::listResources);
    }

    private static ConfigResource topicResource(String name) {
        return new ConfigResource(ConfigResource.Type.TOPIC, name);
    }

    private static Config of(ConfigResource resource) throws Exception {
        return ADMIN.describeConfigs(List.of(resource), new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true)).all().get().get(resource);
    }

    private static void change(ConfigResource resource, AlterConfigOp... ops) throws Exception {
        ADMIN.incrementalAlterConfigs(Map.of(resource, Arrays.asList(ops))).all().get();
    }

    private static AlterConfigOp op(OpType type, String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    private static void sees(ConfigResource resource, String name, String value, ConfigSource source) throws Exception {
        var got = new ConfigEntry[1];
        try {
            eventually("seen", Duration.ofSeconds(5), () -> {
                got[0] = of(resource).get(name);
                return value.equals(got[0].value()) && source == got[0].source() ? Optional.of(true) : Optional.empty();
            });
        } catch (AssertionError e) {
            throw new AssertionError(name + " should be " + value + " from " + source + ", is " + got[0].value() + " from " + got[0].source(), e);
        }
    }

    private static void describeTopic() throws Exception {
        var config = of(topicResource(topic("configs", 1, Map.of("retention.bytes", "123456789"))));
        var expected = Map.of("cleanup.policy", "delete", "compression.type", "producer", "retention.ms", "604800000", "segment.bytes", "1073741824",
            "max.message.bytes", "1048588", "min.insync.replicas", "1", "message.timestamp.type", "CreateTime", "index.interval.bytes", "4096",
            "segment.index.bytes", "10485760", "unclean.leader.election.enable", "false");
        expected.forEach((name, value) -> {
            var entry = config.get(name);
            check(entry != null, name + " is not described");
            same(value, entry.value(), name);
            check(entry.source() != ConfigSource.DYNAMIC_TOPIC_CONFIG, name + " is not the topic's own");
        });
        same("123456789", config.get("retention.bytes").value(), "retention.bytes");
        same(ConfigSource.DYNAMIC_TOPIC_CONFIG, config.get("retention.bytes").source(), "source of retention.bytes");
        var types = Map.of("retention.ms", ConfigType.LONG, "segment.bytes", ConfigType.INT, "cleanup.policy", ConfigType.LIST, "compression.type", ConfigType.STRING,
            "unclean.leader.election.enable", ConfigType.BOOLEAN, "min.cleanable.dirty.ratio", ConfigType.DOUBLE);
        types.forEach((name, type) -> same(type, config.get(name).type(), "type of " + name));
        for (var entry : config.entries()) {
            check(!entry.isReadOnly() && !entry.isSensitive(), entry.name() + " can be changed and is not secret");
            check(entry.documentation() != null && !entry.documentation().isBlank(), "documentation of " + entry.name());
        }
        check(config.entries().size() >= 25, "configs described: " + config.entries().size());
        var one = ADMIN.describeConfigs(List.of(topicResource("compat-java-unknown-" + RUN)));
        refused(UnknownTopicOrPartitionException.class, () -> one.all().get());
    }

    private static void synonyms() throws Exception {
        var entry = of(topicResource(topic("synonyms", 1, Map.of("segment.bytes", "2000000")))).get("segment.bytes");
        var first = entry.synonyms().get(0);
        same(List.of("segment.bytes", "2000000", ConfigSource.DYNAMIC_TOPIC_CONFIG), List.of(first.name(), first.value(), first.source()), "first synonym");
        var last = entry.synonyms().get(entry.synonyms().size() - 1);
        same(List.of("log.segment.bytes", "1073741824", ConfigSource.DEFAULT_CONFIG), List.of(last.name(), last.value(), last.source()), "last synonym");
    }

    private static void describeBroker() throws Exception {
        int id = ADMIN.describeCluster().nodes().get().iterator().next().id();
        var config = of(new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(id)));
        same(Integer.toString(id), config.get("node.id").value(), "node.id");
        check(config.get("node.id").isReadOnly(), "node.id is read-only");
        check(!config.get("log.retention.ms").isReadOnly(), "log.retention.ms can be changed");
        for (var name : List.of("num.partitions", "auto.create.topics.enable", "message.max.bytes", "log.segment.bytes", "offsets.topic.num.partitions", "group.max.session.timeout.ms")) {
            check(config.get(name) != null && config.get(name).value() != null, name + " is described");
        }
    }

    private static void alter() throws Exception {
        var resource = topicResource(topic("alter", 1));
        change(resource, op(OpType.SET, "retention.ms", "5000000"), op(OpType.SET, "segment.bytes", "2000000"));
        sees(resource, "retention.ms", "5000000", ConfigSource.DYNAMIC_TOPIC_CONFIG);
        sees(resource, "segment.bytes", "2000000", ConfigSource.DYNAMIC_TOPIC_CONFIG);
        change(resource, op(OpType.DELETE, "retention.ms", null));
        sees(resource, "retention.ms", "604800000", ConfigSource.DEFAULT_CONFIG);
        sees(resource, "segment.bytes", "2000000", ConfigSource.DYNAMIC_TOPIC_CONFIG);
        change(resource, op(OpType.APPEND, "cleanup.policy", "compact"));
        sees(resource, "cleanup.policy", "delete,compact", ConfigSource.DYNAMIC_TOPIC_CONFIG);
        change(resource, op(OpType.SUBTRACT, "cleanup.policy", "delete"));
        sees(resource, "cleanup.policy", "compact", ConfigSource.DYNAMIC_TOPIC_CONFIG);
    }

    private static void refusals() throws Exception {
        var resource = topicResource(topic("refusals", 1));
        for (var bad : List.of(op(OpType.SET, "no.such.config", "1"), op(OpType.SET, "retention.ms", "never"), op(OpType.SET, "retention.ms", "-2"),
                op(OpType.SET, "segment.bytes", "3"), op(OpType.SET, "cleanup.policy", "burn"), op(OpType.SET, "compression.type", "rar"),
                op(OpType.SET, "message.timestamp.type", "Tomorrow"), op(OpType.APPEND, "retention.ms", "1"))) {
            try {
                refused(InvalidConfigurationException.class, () -> ADMIN.incrementalAlterConfigs(Map.of(resource, List.of(op(OpType.SET, "retention.bytes", "77"), bad))).all().get());
            } catch (AssertionError e) {
                throw new AssertionError(bad.toString(), e);
            }
        }
        same("-1", of(resource).get("retention.bytes").value(), "retention.bytes after refused changes");
        refused(UnknownTopicOrPartitionException.class, () -> {
            change(topicResource("compat-java-unknown-" + RUN), op(OpType.SET, "retention.ms", "1"));
            return null;
        });
    }

    private static void validateOnly() throws Exception {
        var resource = topicResource(topic("validate-configs", 1));
        var only = new AlterConfigsOptions().validateOnly(true);
        ADMIN.incrementalAlterConfigs(Map.of(resource, List.of(op(OpType.SET, "retention.ms", "1234"))), only).all().get();
        same("604800000", of(resource).get("retention.ms").value(), "retention.ms");
        refused(InvalidConfigurationException.class, () -> ADMIN.incrementalAlterConfigs(Map.of(resource, List.of(op(OpType.SET, "retention.ms", "x"))), only).all().get());
    }

    private static void effect() throws Exception {
        var name = topic("effect", 1);
        try (var producer = producer()) {
            producer.send(new ProducerRecord<>(name, noise(1, 5000))).get();
            change(topicResource(name), op(OpType.SET, "max.message.bytes", "1000"));
            eventually("the limit is obeyed", Duration.ofSeconds(5), () -> {
                try {
                    producer.send(new ProducerRecord<>(name, noise(1, 5000))).get();
                    return Optional.empty();
                } catch (java.util.concurrent.ExecutionException e) {
                    same(RecordTooLargeException.class, e.getCause().getClass(), "refusal");
                    return Optional.of(true);
                }
            });
        }
    }

    private static void dynamicDefault() throws Exception {
        var all = new ConfigResource(ConfigResource.Type.BROKER, "");
        var topic = topicResource(topic("dynamic-default", 1));
        change(all, op(OpType.SET, "log.index.interval.bytes", "8192"));
        sees(topic, "index.interval.bytes", "8192", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG);
        sees(all, "log.index.interval.bytes", "8192", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG);
        change(all, op(OpType.DELETE, "log.index.interval.bytes", null));
        sees(topic, "index.interval.bytes", "4096", ConfigSource.DEFAULT_CONFIG);
        refused(InvalidRequestException.class, () -> {
            change(all, op(OpType.SET, "log.segment.bytes", "many"));
            return null;
        });
    }

    private static void listResources() throws Exception {
        var name = topic("resources", 1);
        var topics = ADMIN.listConfigResources(Set.of(ConfigResource.Type.TOPIC), new ListConfigResourcesOptions()).all().get();
        check(topics.contains(topicResource(name)), "the topic is listed");
        check(topics.stream().allMatch(r -> r.type() == ConfigResource.Type.TOPIC), "only topics are listed");
        int id = ADMIN.describeCluster().nodes().get().iterator().next().id();
        var every = ADMIN.listConfigResources().all().get();
        check(every.contains(new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(id))), "the broker is listed");
        same(Set.of(), ADMIN.listConfigResources(Set.of(ConfigResource.Type.CLIENT_METRICS), new ListConfigResourcesOptions()).all().get().stream()
            .collect(Collectors.toSet()), "client metrics resources");
    }
}
