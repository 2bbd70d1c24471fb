package compat;

import static compat.Clients.*;
import static compat.Harness.*;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** Groups and their offsets, as Admin sees them. */
final class AdminGroups {
    private AdminGroups() {}

    static void claims(Harness h) {
        h.claim("a group with members is listed and described with their partitions", AdminGroups::withMembers);
        h.claim("groups are listed by state and by type", AdminGroups::listed);
        h.claim("an unknown group is not found", AdminGroups::unknown);
        h.claim("offsets are altered, listed and deleted in a group without members", AdminGroups::offsets);
        h.claim("offsets of several groups come in one answer", AdminGroups::severalGroups);
        h.claim("offsets of a group with members are protected", AdminGroups::protectedOffsets);
        h.claim("a group is deleted once it is empty", AdminGroups::deleted);
        h.claim("members are removed by instance id and all at once", AdminGroups::removed);
        h.claim("offsets of a deleted topic leave the group", AdminGroups::deletedTopic);
    }

    private static Member settled(String topic, int partitions, Object... settings) throws Exception {
        var member = new Member(topic, new ConcurrentLinkedQueue<>(), settings);
        eventually("the member owns " + partitions + " partitions", Groups.PATIENCE,
            () -> member.owned.size() == partitions ? Optional.of(true) : Optional.empty());
        return member;
    }

    private static Map<TopicPartition, OffsetAndMetadata> committed(String group) throws Exception {
        return ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
    }

    private static void withMembers() throws Exception {
        var topic = topic("described", 3);
        var group = "described-" + RUN;
        try (var member = settled(topic, 3, "group.id", group, "client.id", "watched", "group.instance.id", "instance")) {
            var described = ADMIN.describeConsumerGroups(List.of(group)).all().get().get(group);
            same(GroupState.STABLE, described.groupState(), "state");
            same(GroupType.CLASSIC, described.type(), "type");
            same("range", described.partitionAssignor(), "assignor");
            check(!described.isSimpleConsumerGroup() && described.coordinator() != null, "coordinator");
            same(1, described.members().size(), "members");
            var one = described.members().iterator().next();
            same("watched", one.clientId(), "client id");
            same(Optional.of("instance"), one.groupInstanceId(), "instance id");
            check(one.consumerId().startsWith("instance-"), "member id " + one.consumerId());
            check(one.host().startsWith("/127.0.0.1"), "host " + one.host());
            same(Set.copyOf(partitions(topic, 3)), one.assignment().topicPartitions(), "assignment");
        }
    }

    private static void listed() throws Exception {
        var topic = topic("listed", 1);
        var group = "listed-" + RUN;
        var empty = "listed-empty-" + RUN;
        ADMIN.alterConsumerGroupOffsets(empty, Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(0))).all().get();
        try (var member = settled(topic, 1, "group.id", group)) {
            same(Set.of(group), ids(new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE)), "listed-"), "stable groups");
            same(Set.of(empty), ids(new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY)), "listed-"), "empty groups");
            same(Set.of(group, empty), ids(new ListGroupsOptions().withTypes(Set.of(GroupType.CLASSIC)), "listed-"), "classic groups");
            same(Set.of(), ids(new ListGroupsOptions().withTypes(Set.of(GroupType.SHARE)), "listed-"), "share groups");
            same(Set.of(group, empty), ids(ListGroupsOptions.forConsumerGroups(), "listed-"), "consumer groups");
            var one = ADMIN.listGroups().all().get().stream().filter(g -> g.groupId().equals(group)).findFirst().orElseThrow();
            same("consumer", one.protocol(), "protocol type");
            same(Optional.of(GroupState.STABLE), one.groupState(), "state in the listing");
        }
    }

    private static Set<String> ids(ListGroupsOptions options, String prefix) throws Exception {
        return ADMIN.listGroups(options).all().get().stream().map(g -> g.groupId()).filter(id -> id.startsWith(prefix)).collect(Collectors.toSet());
    }

    private static void unknown() throws Exception {
        var group = "unknown-" + RUN;
        refused(GroupIdNotFoundException.class, () -> ADMIN.describeConsumerGroups(List.of(group)).all().get());
        refused(GroupIdNotFoundException.class, () -> ADMIN.deleteConsumerGroups(List.of(group)).all().get());
        refused(GroupIdNotFoundException.class, () -> ADMIN.deleteConsumerGroupOffsets(group, Set.of(new TopicPartition("x", 0))).all().get());
        same(Map.of(), committed(group), "offsets of an unknown group");
    }

    private static void offsets() throws Exception {
        var topic = topic("altered", 2);
        var group = "altered-" + RUN;
        var p = new TopicPartition(topic, 0);
        var q = new TopicPartition(topic, 1);
        ADMIN.alterConsumerGroupOffsets(group, Map.of(p, new OffsetAndMetadata(5, "five"), q, new OffsetAndMetadata(6))).all().get();
        same(Map.of(p, new OffsetAndMetadata(5, "five"), q, new OffsetAndMetadata(6)), committed(group), "offsets");
        var described = ADMIN.describeConsumerGroups(List.of(group)).all().get().get(group);
        same(GroupState.EMPTY, described.groupState(), "state of a group that only has offsets");
        ADMIN.deleteConsumerGroupOffsets(group, Set.of(p)).all().get();
        same(Map.of(q, new OffsetAndMetadata(6)), committed(group), "offsets after one was deleted");
        same(4L, read(group, topic, 4), "offset after another alteration");
    }

    private static long read(String group, String topic, long offset) throws Exception {
        var p = new TopicPartition(topic, 0);
        ADMIN.alterConsumerGroupOffsets(group, Map.of(p, new OffsetAndMetadata(offset))).all().get();
        try (var producer = producer(); var consumer = consumer("group.id", group)) {
            send(producer, samples(topic, 1, 9));
            consumer.subscribe(List.of(topic));
            return poll(consumer, 1).get(0).offset();
        }
    }

    private static void severalGroups() throws Exception {
        var topic = topic("several", 3);
        var groups = List.of("several-a-" + RUN, "several-b-" + RUN, "several-c-" + RUN);
        for (int i = 0; i < 3; i++) {
            ADMIN.alterConsumerGroupOffsets(groups.get(i), Map.of(new TopicPartition(topic, i), new OffsetAndMetadata(i * 10L))).all().get();
        }
        var all = ADMIN.listConsumerGroupOffsets(groups.stream().collect(Collectors.toMap(g -> g, g -> new ListConsumerGroupOffsetsSpec()))).all().get();
        for (int i = 0; i < 3; i++) {
            same(Map.of(new TopicPartition(topic, i), new OffsetAndMetadata(i * 10L)), all.get(groups.get(i)), "offsets of " + groups.get(i));
        }
    }

    private static void protectedOffsets() throws Exception {
        var topic = topic("protected", 1);
        var other = topic("protected-other", 1);
        var group = "protected-" + RUN;
        var p = new TopicPartition(topic, 0);
        var q = new TopicPartition(other, 0);
        ADMIN.alterConsumerGroupOffsets(group, Map.of(p, new OffsetAndMetadata(0), q, new OffsetAndMetadata(0))).all().get();
        try (var member = settled(topic, 1, "group.id", group)) {
            refused(UnknownMemberIdException.class, () -> ADMIN.alterConsumerGroupOffsets(group, Map.of(p, new OffsetAndMetadata(1))).all().get());
            refused(GroupSubscribedToTopicException.class, () -> ADMIN.deleteConsumerGroupOffsets(group, Set.of(p)).partitionResult(p).get());
            ADMIN.deleteConsumerGroupOffsets(group, Set.of(q)).partitionResult(q).get();
            same(Set.of(p), committed(group).keySet(), "partitions with offsets");
        }
    }

    private static void deleted() throws Exception {
        var topic = topic("deleted-group", 1);
        var group = "deleted-" + RUN;
        try (var member = settled(topic, 1, "group.id", group)) {
            refused(GroupNotEmptyException.class, () -> ADMIN.deleteConsumerGroups(List.of(group)).all().get());
        }
        same(GroupState.EMPTY, ADMIN.describeConsumerGroups(List.of(group)).all().get().get(group).groupState(), "state after the last member left");
        ADMIN.deleteConsumerGroups(List.of(group)).all().get();
        refused(GroupIdNotFoundException.class, () -> ADMIN.describeConsumerGroups(List.of(group)).all().get());
        same(Set.of(), ids(new ListGroupsOptions(), group), "groups listed");
    }

    private static void removed() throws Exception {
        var topic = topic("removed", 2);
        var group = "removed-" + RUN;
        var first = settled(topic, 2, "group.id", group, "group.instance.id", "first");
        first.close();
        same(1, ADMIN.describeConsumerGroups(List.of(group)).all().get().get(group).members().size(), "static members that are away");
        ADMIN.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("first")))).all().get();
        same(0, ADMIN.describeConsumerGroups(List.of(group)).all().get().get(group).members().size(), "members after removal by name");
        try (var second = settled(topic, 2, "group.id", group, "group.instance.id", "second")) {
            int before = second.assignments.get();
            ADMIN.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all().get();
            eventually("the removed member fails or comes back", Groups.PATIENCE,
                () -> second.failure.get() != null || second.assignments.get() > before ? Optional.of(true) : Optional.empty());
        }
    }

    private static void deletedTopic() throws Exception {
        var topic = topic("offsets-gone", 1);
        var kept = topic("offsets-kept", 1);
        var group = "offsets-gone-" + RUN;
        var p = new TopicPartition(topic, 0);
        var q = new TopicPartition(kept, 0);
        ADMIN.alterConsumerGroupOffsets(group, Map.of(p, new OffsetAndMetadata(1), q, new OffsetAndMetadata(1))).all().get();
        ADMIN.deleteTopics(List.of(topic)).all().get();
        eventually("only the offset of the other topic is left", Groups.PATIENCE,
            () -> committed(group).keySet().equals(Set.of(q)) ? Optional.of(true) : Optional.empty());
    }
}
