package compat;

/** The claims of the Java client, the quiet ones first; the restart has the broker to itself. */
public final class Main {
    private Main() {}

    public static void main(String[] args) throws Exception {
        var harness = new Harness();
        ProduceConsume.claims(harness);
        Offsets.claims(harness);
        Groups.claims(harness);
        AdminTopics.claims(harness);
        AdminConfigs.claims(harness);
        AdminGroups.claims(harness);
        harness.run(6);
        Restart.claims(harness);
        harness.run(4);
        System.out.flush();
        Runtime.getRuntime().halt(harness.failed() ? 1 : 0);
    }
}
