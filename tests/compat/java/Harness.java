package compat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Claims, checks and waiting. Knows nothing of what is claimed. */
final class Harness {
    interface Body {
        void run() throws Exception;
    }

    /** The body may tell what it measured. */
    record Claim(String text, Callable<String> body) {}

    private static final int CLAIM_SECONDS_MAX = 180;

    static final String BOOTSTRAP = System.getenv("CHRONIK_COMPAT_BOOTSTRAP");
    /** The two nodes of a pair; the same node where there is one. */
    static final String LEADER = BOOTSTRAP.split(",")[0];
    static final String FOLLOWER = BOOTSTRAP.substring(BOOTSTRAP.indexOf(',') + 1);
    static final String CONTROL = Objects.requireNonNullElse(System.getenv("CHRONIK_COMPAT_CONTROL"), "");
    /** Apache Kafka itself is asked; what it does not promise after a kill is skipped. */
    static final boolean REFERENCE = System.getenv("CHRONIK_COMPAT_REFERENCE") != null;
    /** Sets the names of one run apart on a broker that is used by many. */
    static final String RUN = Long.toString(System.currentTimeMillis(), 36);
    static final Admin ADMIN = Admin.create(connection(Map.of("default.api.timeout.ms", "30000")));

    private final List<Claim> claims = new ArrayList<>();
    private boolean failed;

    /** Where the broker is and how it is reached, and more settings of a client. */
    static Map<String, Object> connection(Map<String, ?> more) {
        var all = new HashMap<String, Object>(Map.of("bootstrap.servers", BOOTSTRAP));
        var authority = System.getenv("CHRONIK_COMPAT_CA");
        if (authority != null) {
            all.putAll(Map.of("security.protocol", "SSL", "ssl.truststore.type", "PEM", "ssl.truststore.location", authority));
        }
        all.putAll(more);
        return all;
    }

    void claim(String text, Body body) {
        claims.add(new Claim(text, () -> {
            body.run();
            return "";
        }));
    }

    void measured(String text, Callable<String> body) {
        claims.add(new Claim(text, body));
    }

    /** Runs the claims collected so far, several at a time, and forgets them. */
    void run(int threads) throws InterruptedException {
        var pool = Executors.newFixedThreadPool(threads, task -> {
            var thread = new Thread(task);
            thread.setDaemon(true);
            return thread;
        });
        var running = new ArrayList<Future<String>>();
        for (var claim : claims) {
            running.add(pool.submit(claim.body));
        }
        long patience = TimeUnit.SECONDS.toNanos(CLAIM_SECONDS_MAX);
        for (int i = 0; i < claims.size(); i++) {
            Throwable problem = null;
            var told = "";
            try {
                told = running.get(i).get(patience, TimeUnit.NANOSECONDS);
            } catch (ExecutionException e) {
                problem = e.getCause();
            } catch (TimeoutException e) {
                problem = new AssertionError("not decided within " + CLAIM_SECONDS_MAX + " s");
                running.get(i).cancel(true);
            }
            report(claims.get(i).text, problem);
            if (!told.isEmpty()) {
                System.out.println("  " + told);
            }
        }
        pool.shutdownNow();
        claims.clear();
    }

    void skip(String text) {
        System.out.println("skip java: " + text);
    }

    boolean failed() {
        return failed;
    }

    private synchronized void report(String text, Throwable problem) {
        System.out.println((problem == null ? "ok" : "FAIL") + " java: " + text);
        if (problem == null) {
            return;
        }
        failed = true;
        for (Throwable cause = problem; cause != null; cause = cause.getCause()) {
            System.out.println("  " + String.valueOf(cause).replace("\n", "\n  "));
        }
        for (var frame : problem.getStackTrace()) {
            if (frame.getClassName().startsWith("compat.") && !frame.getClassName().contains("Harness")) {
                System.out.println("    at " + frame);
            }
        }
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }

    static void same(Object expected, Object got, String what) {
        if (!Objects.deepEquals(expected, got)) {
            throw new AssertionError(what + ": expected " + expected + ", got " + got);
        }
    }

    /** What the future fails with must be exactly of this class. */
    static void refused(Class<? extends Throwable> expected, Callable<?> action) throws Exception {
        Object got;
        try {
            got = action.call();
        } catch (ExecutionException e) {
            got = e.getCause();
        } catch (Exception e) {
            got = e;
        }
        if (got == null || got.getClass() != expected) {
            throw new AssertionError("expected " + expected.getSimpleName() + ", got " + got);
        }
    }

    /** Asks again and again until there is an answer; the client library paces the asking. */
    static <T> T eventually(String what, Duration bound, Callable<Optional<T>> ask) throws Exception {
        long end = System.nanoTime() + bound.toNanos();
        while (true) {
            var answer = ask.call();
            if (answer.isPresent()) {
                return answer.get();
            }
            if (System.nanoTime() > end) {
                throw new AssertionError("not within " + bound.toSeconds() + " s: " + what);
            }
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }

    static String topic(String hint, int partitions, Map<String, String> configs) throws Exception {
        var name = "compat-java-" + hint + "-" + RUN;
        ADMIN.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(configs))).all().get();
        usable(name, partitions);
        return name;
    }

    /** Apache Kafka answers createTopics some milliseconds before it serves the topic. */
    static void usable(String name, int partitions) throws Exception {
        var latest = Clients.partitions(name, partitions).stream().collect(Collectors.toMap(p -> p, p -> OffsetSpec.latest()));
        eventually(name + " is usable", Duration.ofSeconds(10), () -> {
            try {
                return Optional.of(ADMIN.listOffsets(latest).all().get());
            } catch (ExecutionException e) {
                check(e.getCause() instanceof UnknownTopicOrPartitionException, String.valueOf(e.getCause()));
                return Optional.empty();
            }
        });
    }

    static String topic(String hint, int partitions) throws Exception {
        return topic(hint, partitions, Map.of());
    }

    static void control(String verb) throws Exception {
        var process = new ProcessBuilder("sh", "-c", CONTROL + " " + verb).inheritIO().start();
        check(process.waitFor() == 0, "the broker could not be controlled: " + verb);
    }
}
