// blast loads a Kafka-compatible broker at next to no cost of its own and prints one JSON object per run.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "blast:", err)
		os.Exit(1)
	}
}

func emit(v any) { must(json.NewEncoder(os.Stdout).Encode(v)) }

const usage = `blast MODE [flags]
  create, delete, leaders   topics
  wait                      poll until the broker answers (and, with -topic, serves)
  produce                   closed loop, or open loop with -rate; batches are built once
  fetch                     drain without decoding; -verify checks offsets and CRC32C
  e2e                       fixed rate, linger 0, tailing consumers (-consumers), optional catch-up reader
  failover                  open loop across the death of a leader
  idle                      many connections that only stand there
  batch                     sizes of the batches that the flags give
  certificate               a self-signed one, for brokers that encrypt
  machine                   limits of this machine
"blast MODE -h" lists the flags of a mode.`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	mode := os.Args[1]
	fs := flag.NewFlagSet(mode, flag.ExitOnError)
	addr := fs.String("addr", "127.0.0.1:9092", "bootstrap host:port, comma separated")
	topic := fs.String("topic", "blast", "topic")
	maxP, maxF := fs.Int("max-produce", 13, "highest Produce version to speak"), fs.Int("max-fetch", 18, "highest Fetch version to speak")
	fs.BoolVar(&overTLS, "tls", false, "encrypt connections; certificates are not checked")
	parse := func() {
		must(fs.Parse(os.Args[2:]))
		versionCap[0], versionCap[1] = int16(*maxP), int16(*maxF)
	}
	var res map[string]any
	var err error
	switch mode {
	case "create":
		parts, rf := fs.Int("partitions", 1, ""), fs.Int("rf", 1, "replication factor")
		cfg := fs.String("config", "", "k=v,k=v")
		timeout := fs.Duration("timeout", 2*time.Minute, "until every partition has a leader")
		parse()
		m := map[string]string{}
		for _, kv := range strings.Split(*cfg, ",") {
			if k, v, ok := strings.Cut(kv, "="); ok {
				m[k] = v
			}
		}
		cl := newCluster(*addr)
		t := time.Now()
		must(cl.create(*topic, int32(*parts), int16(*rf), m))
		answered := time.Since(t).Seconds()
		_, err = cl.settled(*timeout, *parts, *topic)
		res = map[string]any{"answer_s": answered, "ready_s": time.Since(t).Seconds()}
	case "delete":
		parse()
		err = newCluster(*addr).remove(strings.Split(*topic, ",")...)
		res = map[string]any{"deleted": *topic}
	case "leaders":
		parse()
		cl := newCluster(*addr)
		ps, e := cl.ready(30*time.Second, 1, *topic)
		must(e)
		l := map[string]int32{}
		for _, p := range ps {
			l[fmt.Sprint(p.Num)] = p.Leader
		}
		ends, e := cl.offsets(ps, -1)
		must(e)
		res = map[string]any{"leaders": l, "brokers": cl.Brokers, "controller": cl.Control, "ends": ends}
	case "wait":
		timeout := fs.Duration("timeout", time.Minute, "")
		serve := fs.Bool("serve", false, "also wait until the topic can be read and written")
		parse()
		if !*serve {
			*topic = ""
		}
		res, err = waitUp(*addr, *topic, *timeout)
	case "produce", "batch":
		o := &Produce{}
		fs.StringVar(&o.Codec, "codec", "none", "none, gzip, snappy, lz4, zstd")
		fs.IntVar(&o.Conns, "conns", 2, "connections per leader")
		fs.IntVar(&o.Inflight, "inflight", 5, "open requests per connection")
		fs.IntVar(&o.Acks, "acks", 1, "0, 1, -1")
		fs.IntVar(&o.Batch, "batch", 16384, "bytes of a batch before compression")
		fs.IntVar(&o.RecSize, "record", 100, "bytes of a value")
		fs.IntVar(&o.PartsPerReq, "parts-per-request", 1, "partitions in one request")
		fs.IntVar(&o.PartsPerConn, "parts-per-conn", 0, "partitions that a connection writes to; 0: all")
		fs.IntVar(&o.Variants, "variants", 8, "different batches built")
		fs.IntVar(&o.TimeoutMs, "timeout-ms", 30000, "")
		fs.Int64Var(&o.Bytes, "bytes", 0, "stop after so many value bytes")
		fs.Float64Var(&o.Seconds, "seconds", 0, "stop after so many seconds")
		fs.Float64Var(&o.Rate, "rate", 0, "records per second, open loop; 0: closed loop")
		parse()
		o.Addr, o.Topic = *addr, *topic
		if mode == "batch" {
			b := Produce.sizes(*o)
			emit(b)
			return
		}
		if o.Bytes == 0 && o.Seconds == 0 {
			o.Seconds = 10
		}
		res, err = o.run()
	case "fetch":
		o := &Fetch{}
		fs.IntVar(&o.Conns, "conns", 1, "connections per leader and consumer")
		fs.IntVar(&o.Consumers, "consumers", 1, "independent readers of everything")
		fs.IntVar(&o.MaxBytes, "max-bytes", 50<<20, "")
		fs.IntVar(&o.PartBytes, "partition-bytes", 1<<20, "")
		fs.IntVar(&o.MaxWait, "max-wait", 500, "ms")
		fs.IntVar(&o.MinBytes, "min-bytes", 1, "")
		fs.BoolVar(&o.Verify, "verify", false, "check the CRC32C of every batch")
		fs.BoolVar(&o.Tail, "tail", false, "wait at the end for -seconds")
		fs.Float64Var(&o.Seconds, "seconds", 0, "give up after so many seconds; 0: at the end offset")
		parse()
		o.Addr, o.Topic = *addr, *topic
		if o.Tail && o.Seconds == 0 {
			o.Seconds = 10
		}
		res, err = o.run()
	case "e2e":
		o := &E2E{}
		fs.Float64Var(&o.Rate, "rate", 5000, "records per second")
		fs.Float64Var(&o.Seconds, "seconds", 10, "measured")
		fs.Float64Var(&o.Warm, "warm", 2, "seconds before that")
		fs.IntVar(&o.Conns, "conns", 1, "producer connections per leader")
		fs.IntVar(&o.Inflight, "inflight", 5, "")
		fs.IntVar(&o.Acks, "acks", 1, "")
		fs.IntVar(&o.RecSize, "record", 100, "")
		fs.IntVar(&o.MaxBatch, "batch", 16384, "")
		fs.IntVar(&o.Consumers, "consumers", 1, "independent tailing readers")
		fs.IntVar(&o.ConsumerConns, "consumer-conns", 1, "connections per leader and consumer")
		fs.StringVar(&o.CatchTopic, "catchup", "", "topic that a further reader drains again and again meanwhile")
		parse()
		o.Addr, o.Topic = *addr, *topic
		o.RecSize = max(o.RecSize, 8)
		res, err = o.run()
	case "failover":
		o := &Failover{}
		fs.StringVar(&o.Pids, "pids", "", "id=pid,id=pid: whom to kill where id leads")
		fs.StringVar(&o.Signal, "signal", "KILL", "KILL, TERM, STOP")
		fs.Float64Var(&o.Rate, "rate", 1000, "records per second")
		fs.Float64Var(&o.Seconds, "seconds", 25, "")
		fs.Float64Var(&o.KillAt, "kill-at", 5, "seconds after the start")
		fs.IntVar(&o.Acks, "acks", -1, "")
		fs.IntVar(&o.RecSize, "record", 100, "")
		fs.IntVar(&o.Inflight, "inflight", 5, "")
		fs.IntVar(&o.TimeoutMs, "timeout-ms", 30000, "request timeout")
		fs.IntVar(&o.SettleMs, "settle-ms", 1000, "")
		parse()
		o.Addr, o.Topic = *addr, *topic
		res, err = o.run()
	case "idle":
		n := fs.Int("conns", 5000, "")
		parse()
		res, err = idle(*addr, *n)
	case "certificate":
		dir := fs.String("dir", "", "where the files go")
		parse()
		res, err = certificate(*dir)
	case "machine":
		dir := fs.String("dir", os.TempDir(), "folder on the disk to measure")
		parse()
		res = machine(*dir)
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	must(err)
	emit(res)
}
