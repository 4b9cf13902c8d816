/* The load of the benchmark: a closed loop on one core that knows of first events and of gaps between them.
 *
 *   load PORT CONNECTIONS SECONDS PATH BODYFILE [HEADER ...]
 *
 * Each connection sends the request again as soon as its answer has ended. Prints one line of JSON: answers, answers
 * that were not 200, seconds, percentiles of the whole answer and of its first body byte in microseconds, events
 * (blank lines of a stream), and what came last of a failed answer. SECONDS 0: every connection sends one request and
 * then holds its stream open until a signal ends the program (prints nothing). SECONDS -N: exactly N requests, and
 * every answer is read to its end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNS_MAX = 4096, BUCKETS = 64 * 64, TAIL = 300 };
enum phase { HEAD, LENGTH, SIZE, DATA, DATA_END, TRAILER };

struct conn {
  int fd, status, newline;  /* newline: the byte before was one */
  enum phase phase;
  char head[8192];
  size_t head_n, left, out;  /* out: bytes of the request that are sent */
  char size[20];
  int size_n;
  int64_t began, first;
};

static struct conn conns[CONNS_MAX];
static int ep, port;
static char *request;
static size_t request_n;
static uint64_t limit = UINT64_MAX, begun, answers, failed, events, reconnects, whole[BUCKETS], firsts[BUCKETS];
static char tail[TAIL + 1];
static volatile sig_atomic_t stop;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Buckets of 1/64 of a power of two: within 1.6 % of the truth. */
static int bucket(int64_t ns) {
  uint64_t v = ns < 64 ? 64 : (uint64_t)ns;
  int log = 63 - __builtin_clzll(v);
  return (log - 6) * 64 + (int)((v >> (log - 6)) & 63);
}

static double at(const uint64_t *counts, double share) {
  uint64_t total = 0, seen = 0;
  for (int i = 0; i < BUCKETS; i++) total += counts[i];
  for (int i = 0; i < BUCKETS; i++)
    if ((seen += counts[i]) && (double)seen >= share * (double)total)
      return (double)((uint64_t)((i & 63) | 64) << (i >> 6)) / 1000.0;
  return 0;
}

static void flush(struct conn *c) {
  while (c->out < request_n) {
    ssize_t n = send(c->fd, request + c->out, request_n - c->out, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) break;
    c->out += (size_t)n;
  }
  struct epoll_event e = {.events = EPOLLIN | (c->out < request_n ? EPOLLOUT : 0), .data.u32 = (uint32_t)(c - conns)};
  epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}

static void begin(struct conn *c) {
  if (begun == limit) return;
  begun++;
  c->phase = HEAD;
  c->head_n = c->left = c->out = 0;
  c->status = c->newline = c->size_n = 0;
  c->first = 0;
  c->began = now_ns();
  if (request_n < 65536) {
    ssize_t n = send(c->fd, request, request_n, MSG_NOSIGNAL | MSG_DONTWAIT);
    c->out = n > 0 ? (size_t)n : 0;
    if (c->out == request_n) return;
  }
  flush(c);
}

static void open_one(struct conn *c) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int on = 1;
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) { perror("load: connect"); exit(1); }
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)(c - conns)};
  if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e)) { perror("load: epoll"); exit(1); }
  begin(c);
}

static void reopen(struct conn *c) {
  close(c->fd);
  reconnects++;
  open_one(c);
}

static void done(struct conn *c) {
  int64_t now = now_ns();
  answers++;
  if (c->status != 200) failed++;
  whole[bucket(now - c->began)]++;
  firsts[bucket((c->first ? c->first : now) - c->began)]++;
  int closes = strcasestr(c->head, "\r\nconnection: close") != NULL;
  if (closes) reopen(c); else begin(c);
}

static void body(struct conn *c, const char *p, size_t n) {
  if (n && !c->first) c->first = now_ns();
  for (size_t i = 0; i < n; i++) {
    if (p[i] == '\n') { if (c->newline) { events++; c->newline = 0; } else c->newline = 1; }
    else if (p[i] != '\r') c->newline = 0;
  }
  if (c->status != 200) { size_t m = n < TAIL ? n : TAIL; memcpy(tail, p, m); tail[m] = 0; }
}

/* -1: the connection is of no more use. */
static int take(struct conn *c, const char *p, size_t n) {
  while (n) {
    switch (c->phase) {
      case HEAD: {
        size_t room = sizeof c->head - 1 - c->head_n, m = n < room ? n : room;
        if (!m) return -1;
        size_t before = c->head_n;
        memcpy(c->head + before, p, m);
        c->head_n += m;
        c->head[c->head_n] = 0;
        char *end = strstr(c->head, "\r\n\r\n");
        if (!end) { p += m; n -= m; break; }
        size_t used = (size_t)(end - c->head) + 4 - before;
        end[2] = 0;
        c->status = atoi(c->head + 9);
        char *length = strcasestr(c->head, "\r\ncontent-length:");
        int is_chunked = strcasestr(c->head, "\r\ntransfer-encoding: chunked") != NULL;
        c->left = length ? strtoul(length + 17, NULL, 10) : 0;
        p += used; n -= used;
        c->phase = is_chunked ? SIZE : LENGTH;
        if (!is_chunked && !c->left) { done(c); return 0; }
        break;
      }
      case LENGTH: {
        size_t m = n < c->left ? n : c->left;
        body(c, p, m);
        p += m; n -= m;
        if (!(c->left -= m)) { done(c); return 0; }
        break;
      }
      case SIZE:
        if (*p == '\n') {
          c->size[c->size_n] = 0;
          c->left = strtoul(c->size, NULL, 16);
          c->size_n = 0;
          c->phase = c->left ? DATA : TRAILER;
        } else if (c->size_n < 18) c->size[c->size_n++] = *p;
        p++; n--;
        break;
      case DATA: {
        size_t m = n < c->left ? n : c->left;
        body(c, p, m);
        p += m; n -= m;
        if (!(c->left -= m)) c->phase = DATA_END;
        break;
      }
      case DATA_END:
        if (*p == '\n') c->phase = SIZE;
        p++; n--;
        break;
      case TRAILER: /* ends with an empty line */
        if (*p == '\n') { done(c); return 0; }
        p++; n--;
        break;
    }
  }
  return 0;
}

static void on_signal(int number) { (void)number; stop = 1; }

int main(int argc, char **argv) {
  if (argc < 6) { fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS PATH BODYFILE [HEADER ...]\n"); return 2; }
  signal(SIGINT, on_signal);
  signal(SIGTERM, on_signal);
  port = atoi(argv[1]);
  int count = atoi(argv[2]);
  double seconds = atof(argv[3]);
  FILE *f = fopen(argv[5], "rb");
  if (!f || count < 1 || count > CONNS_MAX) { fprintf(stderr, "load: no such body, or not 1 to %d connections\n", CONNS_MAX); return 2; }
  fseek(f, 0, SEEK_END);
  size_t body_n = (size_t)ftell(f);
  rewind(f);
  request = malloc(body_n + 16384);
  request_n = (size_t)sprintf(request, "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n", argv[4], port, body_n);
  for (int i = 6; i < argc; i++) request_n += (size_t)sprintf(request + request_n, "%s\r\n", argv[i]);
  request_n += (size_t)sprintf(request + request_n, "\r\n");
  if (fread(request + request_n, 1, body_n, f) != body_n) return 1;
  request_n += body_n;
  ep = epoll_create1(0);
  struct epoll_event ready[256];
  static char buffer[1 << 18];
  if (seconds < 0) { limit = (uint64_t)-seconds; seconds = 1e6; }
  int64_t start = now_ns(), end = start + (int64_t)(seconds * 1e9);
  for (int i = 0; i < count; i++) open_one(&conns[i]);
  while (!stop && answers < limit && (seconds == 0 || now_ns() < end)) {
    int n = epoll_wait(ep, ready, 256, 100);
    for (int i = 0; i < n; i++) {
      struct conn *c = &conns[ready[i].data.u32];
      if (ready[i].events & EPOLLOUT) flush(c);
      if (!(ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
      ssize_t got = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
      if (got < 0 && errno == EAGAIN) continue;
      if (got <= 0) { failed += c->out > 0 && c->began > 0; reopen(c); continue; }
      if (take(c, buffer, (size_t)got) < 0) reopen(c);
    }
  }
  if (seconds == 0) return 0;
  double took = (double)(now_ns() - start) / 1e9;
  for (char *p = tail; *p; p++) if (*p == '"' || *p == '\\' || *p < ' ') *p = '\'';
  printf("{\"answers\": %llu, \"failed\": %llu, \"seconds\": %.4f, \"per_s\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
         "\"first_p50_us\": %.1f, \"first_p99_us\": %.1f, \"events\": %llu, \"events_per_s\": %.1f, \"reconnects\": %llu, \"last_failure\": \"%s\"}\n",
         (unsigned long long)answers, (unsigned long long)failed, took, (double)answers / took, at(whole, 0.5), at(whole, 0.99),
         at(firsts, 0.5), at(firsts, 0.99), (unsigned long long)events, (double)events / took, (unsigned long long)reconnects, tail);
  return 0;
}
