package compat;

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import org.apache.kafka.common.utils.Exit;

/**
 * Calls main methods of Kafka's tools one after the other, so that a hundred calls cost one JVM.
 * A call is a line of base64 words, the class and its arguments; the answer is a line of exit code, output and errors.
 */
public final class Calls {
    private Calls() {}

    /** Some tools catch what ends them and exit once more: the first exit is the one that a process would have seen. */
    private static final class Ended extends Error {
        Ended() {
            super(null, null, false, false);
        }
    }

    private static final ByteArrayOutputStream OUT = new ByteArrayOutputStream();
    private static final ByteArrayOutputStream ERR = new ByteArrayOutputStream();
    private static String answer;

    private static void answer(int code) {
        System.out.flush();
        System.err.flush();
        if (answer == null) {
            answer = code + " " + Base64.getEncoder().encodeToString(OUT.toByteArray()) + " " + Base64.getEncoder().encodeToString(ERR.toByteArray());
        }
    }

    public static void main(String[] unused) throws Exception {
        var answers = System.out;
        Exit.setExitProcedure((code, message) -> {
            answer(code);
            throw new Ended();
        });
        System.setOut(new PrintStream(OUT, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(ERR, true, StandardCharsets.UTF_8));
        var calls = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = calls.readLine(); line != null; line = calls.readLine()) {
            var words = Arrays.stream(line.split(" ", -1)).map(word -> new String(Base64.getDecoder().decode(word), StandardCharsets.UTF_8)).toArray(String[]::new);
            OUT.reset();
            ERR.reset();
            answer = null;
            try {
                Class.forName(words[0]).getMethod("main", String[].class).invoke(null, (Object) Arrays.copyOfRange(words, 1, words.length));
                answer(0);
            } catch (InvocationTargetException e) {
                e.getCause().printStackTrace();
                answer(1);
            }
            answers.println(answer);
        }
    }
}
