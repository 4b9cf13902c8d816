/* The provider of the benchmark: answers as fast as one core can, so that a proxy before it is what is measured.
 *
 *   provider PORT
 *
 * POST /v1/messages and /v1/chat/completions get a fixed answer, or a stream if the body says "stream":true. Each
 * event is one send(). GET /pace?delay=US&gap=US&events=N sets how long the first byte takes, how far events are apart
 * and how many there are. Content-Length bodies only; anything else is answered 411.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { CONNS = 16384, HEAD_MAX = 64 * 1024, BODY_MAX = 4 << 20, EVENTS_MAX = 100000 };

struct conn {
  int fd, waits;             /* waits: output is pending in `out` */
  char *in;                  /* head and body as far as received */
  size_t have, room, need;   /* need: bytes of head and body together; 0: head incomplete */
  const char *out;           /* unsent rest of what the socket did not take */
  size_t left;
  char *keep;                /* a copy that `out` points into */
  int event, openai, active; /* event: next to send; -1: no stream */
  int64_t due;
};

static struct conn conns[CONNS];
static int ep;
static int64_t delay_us, gap_us;
static int events = 100;

static int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static char plain[2][2048], head_sse[256], first[2][1024], middle[2][512], last[2][1024];
static size_t plain_n[2], head_sse_n, first_n[2], middle_n[2], last_n[2];

static size_t chunked(char *to, const char *text) { return (size_t)sprintf(to, "%zx\r\n%s\r\n", strlen(text), text); }

static void prepare(void) {
  char text[900], body[1400];
  memset(text, 'a', sizeof text - 1);
  text[sizeof text - 1] = 0;
  int n = snprintf(body, sizeof body,
                   "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-haiku-4-5\","
                   "\"content\":[{\"type\":\"text\",\"text\":\"%s\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,"
                   "\"usage\":{\"input_tokens\":25,\"output_tokens\":225}}", text);
  plain_n[0] = (size_t)sprintf(plain[0], "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_1\r\ncontent-length: %d\r\n\r\n%s", n, body);
  n = snprintf(body, sizeof body,
               "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,"
               "\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},\"finish_reason\":\"stop\"}],"
               "\"usage\":{\"prompt_tokens\":25,\"completion_tokens\":225,\"total_tokens\":250}}", text);
  plain_n[1] = (size_t)sprintf(plain[1], "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: %d\r\n\r\n%s", n, body);
  head_sse_n = (size_t)sprintf(head_sse, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n");
  first_n[0] = chunked(first[0],
      "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\","
      "\"model\":\"claude-haiku-4-5\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n");
  middle_n[0] = chunked(middle[0],
      "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a few words\"}}\n\n");
  last_n[0] = chunked(last[0],
      "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":225}}\n\n"
      "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
  first_n[1] = chunked(first[1],
      "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n");
  middle_n[1] = chunked(middle[1],
      "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a few words\"},\"finish_reason\":null}]}\n\n");
  last_n[1] = chunked(last[1],
      "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
      "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":[],\"usage\":{\"prompt_tokens\":25,\"completion_tokens\":225,\"total_tokens\":250}}\n\n"
      "data: [DONE]\n\n");
  for (int i = 0; i < 2; i++) { memcpy(last[i] + last_n[i], "0\r\n\r\n", 5); last_n[i] += 5; }
}

static void watch(struct conn *c, int writing) {
  struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.u32 = (uint32_t)(c - conns)};
  epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}

static void drop(struct conn *c) {
  close(c->fd);
  free(c->in);
  free(c->keep);
  *c = (struct conn){.fd = -1, .event = -1};
}

/* 0: all is sent or kept for later; -1: the peer is gone. */
static int put(struct conn *c, const char *bytes, size_t n) {
  ssize_t sent = send(c->fd, bytes, n, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) return -1;
  if (sent < 0) sent = 0;
  if ((size_t)sent < n) {
    free(c->keep);
    c->left = n - (size_t)sent;
    c->keep = malloc(c->left);
    memcpy(c->keep, bytes + sent, c->left);
    c->out = c->keep;
    c->waits = 1;
    watch(c, 1);
  }
  return 0;
}

static void settings(const char *target) {
  const char *at;
  if ((at = strstr(target, "delay="))) delay_us = atoll(at + 6);
  if ((at = strstr(target, "gap="))) gap_us = atoll(at + 4);
  if ((at = strstr(target, "events="))) { events = atoi(at + 7); if (events > EVENTS_MAX) events = EVENTS_MAX; if (events < 2) events = 2; }
}

/* The request is whole: begin the answer. */
static int answer(struct conn *c, size_t head) {
  char saved = c->in[head - 1];
  c->in[head - 1] = 0;
  char *line_end = strstr(c->in, "\r\n");
  *line_end = 0;
  int is_pace = strncmp(c->in, "GET /pace", 9) == 0;
  c->openai = strstr(c->in, "/chat/completions") != NULL;
  if (is_pace) settings(c->in);
  int known = is_pace || strncmp(c->in, "POST /v1/", 9) == 0;
  *line_end = '\r';
  c->in[head - 1] = saved;
  size_t body = c->need - head;
  const char *text = c->in + head;
  int stream = memmem(text, body, "\"stream\":true", 13) || memmem(text, body, "\"stream\": true", 14);
  size_t used = c->need;
  memmove(c->in, c->in + used, c->have - used);
  c->have -= used;
  c->need = 0;
  c->active = 1;
  if (is_pace) { c->active = 0; return put(c, "HTTP/1.1 204 No Content\r\n\r\n", 27); }
  if (!known) { c->active = 0; return put(c, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}", 72); }
  c->event = stream ? 0 : -1;
  c->due = delay_us ? now_us() + delay_us : 0;
  if (!stream && !delay_us) { c->active = 0; return put(c, plain[c->openai], plain_n[c->openai]); }
  return 0;
}

static int take(struct conn *c) {
  for (;;) {
    if (c->room - c->have < 4096) { c->room = c->room ? c->room * 2 : 16384; c->in = realloc(c->in, c->room + 1); }
    ssize_t got = recv(c->fd, c->in + c->have, c->room - c->have, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) return -1;
    if (got < 0) return 0;
    c->have += (size_t)got;
    if (c->active) continue;
    size_t head = 0;
    if (!c->need) {
      char *end = memmem(c->in, c->have, "\r\n\r\n", 4);
      if (!end) { if (c->have > HEAD_MAX) return -1; continue; }
      head = (size_t)(end - c->in) + 4;
      *end = 0;
      char *length = strcasestr(c->in, "\r\ncontent-length:");
      size_t body = length ? strtoul(length + 17, NULL, 10) : 0;
      *end = '\r';
      if (body > BODY_MAX) return -1;
      c->need = head + body;
    }
    if (c->have < c->need) continue;
    if (!head) head = (size_t)((char *)memmem(c->in, c->have, "\r\n\r\n", 4) - c->in) + 4;
    if (answer(c, head) < 0) return -1;
  }
}

/* Send what is due on a connection; 1 if it has more to send at once. */
static int go_on(struct conn *c, int64_t now) {
  if (!c->active || c->waits || (c->due && c->due > now)) return 0;
  int d = c->openai, failed;
  if (c->event < 0) { c->active = 0; failed = put(c, plain[d], plain_n[d]); }
  else if (c->event == 0) {
    char both[2048];
    memcpy(both, head_sse, head_sse_n);
    memcpy(both + head_sse_n, first[d], first_n[d]);
    failed = put(c, both, head_sse_n + first_n[d]);
  } else if (c->event < events - 1) failed = put(c, middle[d], middle_n[d]);
  else failed = put(c, last[d], last_n[d]);
  if (failed) { drop(c); return 0; }
  if (c->event >= 0 && ++c->event >= events) { c->active = 0; c->event = -1; }
  c->due = c->active && gap_us ? (c->due ? c->due : now) + gap_us : 0;
  return c->active;
}

int main(int argc, char **argv) {
  if (argc != 2) { fprintf(stderr, "usage: provider PORT\n"); return 2; }
  signal(SIGPIPE, SIG_IGN);
  prepare();
  for (int i = 0; i < CONNS; i++) conns[i] = (struct conn){.fd = -1, .event = -1};
  int on = 1, server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(server, (struct sockaddr *)&at, sizeof at) || listen(server, 1024)) { perror("provider"); return 1; }
  ep = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN, .data.u32 = CONNS}, ready[256];
  epoll_ctl(ep, EPOLL_CTL_ADD, server, &e);
  int busy = 0, top = 0;
  int64_t next = 0;
  for (;;) {
    int wait = busy ? 0 : -1;
    if (!busy && next) { int64_t ms = next - now_us(); wait = ms <= 0 ? 0 : (int)((ms + 999) / 1000); }
    int n = epoll_wait(ep, ready, 256, wait);
    for (int i = 0; i < n; i++) {
      if (ready[i].data.u32 == CONNS) {
        int fd;
        while ((fd = accept4(server, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          int slot = 0;
          while (slot < CONNS && conns[slot].fd >= 0) slot++;
          if (slot == CONNS) { close(fd); continue; }
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
          conns[slot] = (struct conn){.fd = fd, .event = -1};
          if (slot >= top) top = slot + 1;
          e = (struct epoll_event){.events = EPOLLIN, .data.u32 = (uint32_t)slot};
          epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
        }
        continue;
      }
      struct conn *c = &conns[ready[i].data.u32];
      if (c->fd < 0) continue;
      if (ready[i].events & EPOLLOUT && c->waits) {
        ssize_t sent = send(c->fd, c->out, c->left, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) { drop(c); continue; }
        if (sent > 0) { c->out += sent; c->left -= (size_t)sent; }
        if (!c->left) { c->waits = 0; watch(c, 0); }
      }
      if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && take(c) < 0) drop(c);
    }
    busy = 0, next = 0;
    int64_t now = now_us();
    for (int i = 0; i < top; i++) {
      struct conn *c = &conns[i];
      if (c->fd < 0 || !c->active || c->waits) continue;
      if (go_on(c, now) && !c->due) busy = 1;
      if (c->fd >= 0 && c->active && c->due && (!next || c->due < next)) next = c->due;
    }
  }
}
