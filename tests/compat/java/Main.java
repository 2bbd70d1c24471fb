package compat;

/** The claims of the Java client, the quiet ones first; the restart has the broker to itself. */
public final class Main {
    private Main() {}

    public static void main(String[] args) throws Exception {
        var harness = new Harness();
        if (args.length == 0) {
            one(harness);
        } else {
            pair(harness, args[0]);
        }
        System.out.flush();
        Runtime.getRuntime().halt(harness.failed() ? 1 : 0);
    }

    /** A leader and its follower. */
    private static void pair(Harness harness, String scene) throws Exception {
        switch (scene) {
            case "kill" -> Promotion.afterKill(harness);
            case "live" -> Promotion.whileLeaderRuns(harness);
            case "read" -> Follower.claims(harness);
            default -> throw new IllegalArgumentException(scene);
        }
        harness.run(1);
    }

    private static void one(Harness harness) throws Exception {
        ProduceConsume.claims(harness);
        Offsets.claims(harness);
        Groups.claims(harness);
        AdminTopics.claims(harness);
        AdminConfigs.claims(harness);
        AdminGroups.claims(harness);
        harness.run(6);
        Restart.claims(harness);
        harness.run(4);
    }
}
