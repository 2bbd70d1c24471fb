package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"math/rand"
	"net"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func selfCPU() float64 {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return float64(ru.Utime.Nano()+ru.Stime.Nano()) / 1e9
}

// waitUp polls until the broker answers ApiVersions and, where a topic is named, until every partition has a leader, a
// record can be read at the first offset and a write is acknowledged. The times are Unix nanoseconds.
func waitUp(addr, topic string, timeout time.Duration) (map[string]any, error) {
	end := time.Now().Add(timeout)
	out := map[string]any{}
	for {
		if c, err := dial(addr, time.Second, 4096); err == nil {
			out["api_versions_ns"] = time.Now().UnixNano()
			c.Close()
			break
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%s did not answer within %s", addr, timeout)
		}
		time.Sleep(2 * time.Millisecond)
	}
	if topic == "" {
		return out, nil
	}
	cl := newCluster(addr)
	batch := buildBatch(rand.New(rand.NewSource(1)), 200, 100, "none")
	for {
		err := func() error {
			ps, err := cl.ready(time.Until(end), 1, topic)
			if err != nil {
				return err
			}
			if _, ok := out["leaders_ns"]; !ok {
				out["leaders_ns"] = time.Now().UnixNano()
			}
			starts, err := cl.offsets(ps[:1], -2)
			if err != nil {
				return err
			}
			ends, err := cl.offsets(ps[:1], -1)
			if err != nil {
				return err
			}
			if ends[0] > starts[0] {
				f, err := newFetcher(cl.Brokers[ps[0].Leader], &Fetch{MaxBytes: 1 << 20, PartBytes: 1 << 20, MaxWait: 10, MinBytes: 1}, []*fpart{{ps[0], starts[0], -1}})
				if err != nil {
					return err
				}
				err = f.once()
				f.c.Close()
				if err != nil {
					return err
				}
				if f.errcodes > 0 || f.records == 0 {
					return fmt.Errorf("fetch: %d records, error code %d", f.records, f.lastCode)
				}
			}
			out["readable_ns"] = time.Now().UnixNano()
			c, err := dial(cl.Brokers[ps[0].Leader], time.Second, 4096)
			if err != nil {
				return err
			}
			defer c.Close()
			t, err := encodeProduce(c, 1, 10000, ps[:1], []Batch{batch})
			if err != nil {
				return err
			}
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Write(append(append(append([]byte(nil), t.pre...), t.body...), t.suf...)); err != nil {
				return err
			}
			resp := kmsg.NewPtrProduceResponse()
			v, _ := c.pick(kmsg.NewPtrProduceRequest())
			resp.SetVersion(v)
			_, _, code, err := c.readAck(nil, resp, v >= 9)
			if err == nil && code != 0 {
				err = fmt.Errorf("produce: error code %d", code)
			}
			if err == nil {
				out["writable_ns"] = time.Now().UnixNano()
				out["end_offset"] = ends[ps[0].Num]
			}
			return err
		}()
		if err == nil {
			return out, nil
		}
		if time.Now().After(end) {
			return nil, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// idle opens connections, says so, holds them until a line comes on stdin, then checks that they still answer.
func idle(addr string, n int) (map[string]any, error) {
	conns := make([]net.Conn, n)
	errs := make(chan error, n)
	t0 := time.Now()
	var wg sync.WaitGroup
	work := make(chan int, n)
	for i := range n {
		work <- i
	}
	close(work)
	ask := func(c net.Conn, h *Hist) error {
		c.SetDeadline(time.Now().Add(30 * time.Second))
		k := &Conn{Conn: c, br: bufio.NewReaderSize(c, 1024), fmtr: kmsg.NewRequestFormatter(kmsg.FormatterClientID("blast"))}
		s := time.Now()
		err := k.negotiate()
		if h != nil {
			h.add(time.Since(s))
		}
		return err
	}
	for range 32 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range work {
				c, err := open(addr, 30*time.Second)
				if err == nil {
					err = ask(c, nil)
				}
				if err != nil {
					errs <- err
					return
				}
				conns[i] = c
			}
		}()
	}
	wg.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
	}
	el := time.Since(t0).Seconds()
	emit(map[string]any{"held": n, "connect_s": el})
	bufio.NewReader(os.Stdin).ReadString('\n')
	h := newHist()
	dead := 0
	for i := 0; i < n; i += max(1, n/500) {
		if err := ask(conns[i], &h); err != nil {
			dead++
		}
	}
	for _, c := range conns {
		c.Close()
	}
	return map[string]any{"connections": n, "connects_s": float64(n) / el, "dead": dead, "answer": h.summary()}, nil
}

// certificate writes a self-signed one for 127.0.0.1 with its key, cert.pem and key.pem, and both in one file, both.pem.
func certificate(dir string) (map[string]any, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	about := x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 1, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	signed, err := x509.CreateCertificate(crand.Reader, &about, &about, key.Public(), key)
	if err != nil {
		return nil, err
	}
	k := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	c := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	for name, text := range map[string][]byte{"key.pem": k, "cert.pem": c, "both.pem": append(append([]byte(nil), k...), c...)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	return map[string]any{"dir": dir}, nil
}

func quant(ds []time.Duration) map[string]float64 {
	sort.Slice(ds, func(i, j int) bool { return ds[i] < ds[j] })
	at := func(q float64) float64 { return float64(ds[int(q*float64(len(ds)-1))].Nanoseconds()) / 1000 }
	return map[string]float64{"p50_us": at(.5), "p99_us": at(.99), "max_us": at(1)}
}

// machine measures what no broker on this machine can beat.
func machine(dir string) map[string]any {
	out := map[string]any{}
	// memcpy, in buffers far larger than the last-level cache's share
	src, dst := make([]byte, 512<<20), make([]byte, 512<<20)
	for i := range src {
		src[i] = byte(i * 7)
	}
	copy(dst, src)
	t := time.Now()
	for range 4 {
		copy(dst, src)
	}
	out["memcpy_gb_s"] = 4 * float64(len(src)) / 1e9 / time.Since(t).Seconds()
	t = time.Now()
	sum := crc32.Checksum(src, castagnoli)
	out["crc32c_cold_gb_s"] = float64(len(src)) / 1e9 / time.Since(t).Seconds()
	t = time.Now()
	for range 1000 {
		sum += crc32.Checksum(src[:1<<20], castagnoli)
	}
	out["crc32c_gb_s"] = 1000 * float64(1<<20) / 1e9 / time.Since(t).Seconds()
	out["_"] = sum
	// loopback
	tcp := func(chunk int) float64 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		defer l.Close()
		done := make(chan int64)
		go func() {
			c, _ := l.Accept()
			b := make([]byte, chunk)
			var n int64
			for {
				k, err := c.Read(b)
				n += int64(k)
				if err != nil {
					done <- n
					return
				}
			}
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		must(err)
		t := time.Now()
		for time.Since(t) < 2*time.Second {
			c.Write(src[:chunk])
		}
		c.Close()
		n := <-done
		return float64(n) / 1e6 / time.Since(t).Seconds()
	}
	out["loopback_16k_mb_s"], out["loopback_256k_mb_s"] = tcp(16<<10), tcp(256<<10)
	{
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		go func() {
			c, _ := l.Accept()
			b := make([]byte, 64)
			for {
				k, err := c.Read(b)
				if err != nil {
					return
				}
				c.Write(b[:k])
			}
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		must(err)
		b := make([]byte, 64)
		ds := make([]time.Duration, 0, 20000)
		for range 20000 {
			t := time.Now()
			c.Write(b)
			io.ReadFull(c, b)
			ds = append(ds, time.Since(t))
		}
		c.Close()
		l.Close()
		out["loopback_rtt"] = quant(ds)
	}
	// disk
	name := filepath.Join(dir, "blast-disk")
	f, err := os.Create(name)
	must(err)
	defer os.Remove(name)
	for _, chunk := range []int{4 << 10, 64 << 10, 1 << 20} {
		ds := make([]time.Duration, 0, 400)
		for range 400 {
			f.Write(src[:chunk])
			t := time.Now()
			syscall.Fdatasync(int(f.Fd()))
			ds = append(ds, time.Since(t))
		}
		out[fmt.Sprintf("fdatasync_append_%dk", chunk>>10)] = quant(ds)
	}
	f.Close()
	f, _ = os.Create(name)
	f.Write(make([]byte, 64<<20))
	f.Sync()
	ds := make([]time.Duration, 0, 400)
	for i := range 400 {
		f.WriteAt(src[:4096], int64(i)*4096)
		t := time.Now()
		syscall.Fdatasync(int(f.Fd()))
		ds = append(ds, time.Since(t))
	}
	out["fdatasync_overwrite_4k"] = quant(ds)
	f.Close()
	f, _ = os.Create(name)
	t = time.Now()
	for range 2048 {
		f.Write(src[:1<<20])
	}
	out["write_pagecache_mb_s"] = 2048 * 1.048576 / time.Since(t).Seconds()
	f.Sync()
	out["write_seq_synced_mb_s"] = 2048 * 1.048576 / time.Since(t).Seconds()
	f.Seek(0, 0)
	t = time.Now()
	for range 2048 {
		io.ReadFull(f, dst[:1<<20])
	}
	out["read_pagecache_mb_s"] = 2048 * 1.048576 / time.Since(t).Seconds()
	// page cache to socket with sendfile, the consume path of a zero-copy broker
	{
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		done := make(chan bool)
		go func() {
			c, _ := l.Accept()
			b := make([]byte, 256<<10)
			for {
				if _, err := c.Read(b); err != nil {
					done <- true
					return
				}
			}
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		must(err)
		f.Seek(0, 0)
		t = time.Now()
		n, err := c.(*net.TCPConn).ReadFrom(f)
		must(err)
		c.Close()
		<-done
		out["sendfile_loopback_mb_s"] = float64(n) / 1e6 / time.Since(t).Seconds()
		l.Close()
	}
	f.Close()
	delete(out, "_")
	return out
}
