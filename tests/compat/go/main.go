// Unmodified Go clients of Kafka say what holds: `compat CLIENT`, called by ../run.
//
// What lives here: claims, checks, waiting and the restart control. What every client must do lives in claims.go,
// how each client does it in a file of its own.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

const (
	claimTimeMax = 150 * time.Second
	claimsAtOnce = 4
	patience     = 60 * time.Second
)

var (
	bootstrap = strings.Split(os.Getenv("CHRONIK_COMPAT_BOOTSTRAP"), ",")
	control   = os.Getenv("CHRONIK_COMPAT_CONTROL")
	run       = fmt.Sprintf("%x", time.Now().UnixMilli())
)

// encryption is what the broker is checked with where it speaks TLS, and nil where it does not.
var encryption = func() *tls.Config {
	file := os.Getenv("CHRONIK_COMPAT_CA")
	if file == "" {
		return nil
	}
	authority, err := os.ReadFile(file)
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(authority) {
		panic(fmt.Sprintf("no certificate in %s: %v", file, err))
	}
	return &tls.Config{RootCAs: roots}
}()

type claim struct {
	text string
	body func()
}

// failure is what a check panics with; anything else that panics is a defect of the suite or the client.
type failure string

func check(holds bool, format string, args ...any) {
	if !holds {
		panic(failure(fmt.Sprintf(format, args...)))
	}
}

func must(err error, doing string) {
	check(err == nil, "%s: %v", doing, err)
}

func same[T comparable](expected, got T, what string) {
	check(expected == got, "%s: expected %v, got %v", what, expected, got)
}

// eventually asks until the answer is yes.
func eventually(what string, bound time.Duration, ask func() bool) {
	end := time.Now().Add(bound)
	for !ask() {
		check(time.Now().Before(end), "not within %v: %s", bound, what)
		time.Sleep(20 * time.Millisecond)
	}
}

func controlBroker(verb string) {
	out, err := exec.Command("sh", "-c", control+" "+verb).CombinedOutput()
	check(err == nil, "the broker could not be controlled: %s: %v: %s", verb, err, out)
}

// attempt runs one claim to its end, or until its time is up.
func attempt(body func()) (problem string) {
	done := make(chan string, 1)
	go func() {
		defer func() {
			switch p := recover().(type) {
			case nil:
				done <- ""
			case failure:
				done <- string(p) + "\n" + where()
			default:
				done <- fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
		}()
		body()
	}()
	select {
	case problem := <-done:
		return problem
	case <-time.After(claimTimeMax):
		return fmt.Sprintf("not decided within %v", claimTimeMax)
	}
}

// where names the lines of this suite that led to a failed check.
func where() string {
	var lines []string
	for _, line := range strings.Split(string(debug.Stack()), "\n") {
		if strings.Contains(line, "/compat/go/") && !strings.Contains(line, "main.go") {
			lines = append(lines, strings.Fields(line)[0][strings.LastIndex(strings.Fields(line)[0], "/")+1:])
		}
	}
	return "at " + strings.Join(lines, " < ")
}

func runClaims(name string, claims []claim, atOnce int) (failed bool) {
	slots := make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	var printing sync.Mutex
	for _, c := range claims {
		slots <- struct{}{}
		wait.Add(1)
		go func() {
			defer func() { <-slots; wait.Done() }()
			problem := attempt(c.body)
			printing.Lock()
			defer printing.Unlock()
			if problem == "" {
				fmt.Printf("ok %s: %s\n", name, c.text)
				return
			}
			failed = true
			fmt.Printf("FAIL %s: %s\n  %s\n", name, c.text, strings.ReplaceAll(strings.TrimSpace(problem), "\n", "\n  "))
		}()
	}
	wait.Wait()
	return failed
}

func main() {
	clients := map[string]func() client{"franz-go": newFranz, "sarama": newSarama, "kafka-go": newKafkaGo}
	if len(os.Args) < 2 || len(os.Args) > 3 || clients[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "compat franz-go|sarama|kafka-go, or franz-go|sarama kill|live")
		os.Exit(2)
	}
	name := os.Args[1]
	c := clients[name]()
	if len(os.Args) == 3 {
		var gap time.Duration
		if runClaims(name, []claim{promotionClaim(c, os.Args[2], &gap)}, 1) {
			os.Exit(1)
		}
		fmt.Printf("  the longest time without an acknowledgement was %d ms\n", gap.Milliseconds())
		return
	}
	failed := runClaims(name, append(sharedClaims(c), c.ownClaims()...), claimsAtOnce)
	if control == "" {
		fmt.Printf("skip %s: %s\n", name, restartClaim(c).text)
	} else if runClaims(name, []claim{restartClaim(c)}, 1) {
		failed = true
	}
	if failed {
		os.Exit(1)
	}
}
