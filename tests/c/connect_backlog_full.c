/*
 * A Unix listener whose backlog is full refuses nobody: there will be room. A connection waits for it, within its time;
 * no event tells when.
 */
#include "remote.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONNECT_MS = 200 };

static tally seen = TALLY_INIT;

/* A listener, and how many clients fill it. */
static int full_listener(const char *url, int *fillers, int most) {
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    size_t len = strlen(url + 6); /* behind "unix:@" */
    memcpy(name.sun_path + 1, url + 6, len);
    socklen_t name_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(!bind(listener, (struct sockaddr *)&name, name_len) && !listen(listener, 0));
    for (int i = 0; i < most; i++) {
        fillers[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(fillers[i], (struct sockaddr *)&name, name_len)) CHECK_EQ(errno, EAGAIN);
    }
    return listener;
}

static void *ask(void *url) {
    char answer[8] = "";
    CHECK_OK(ahoy_request(url, NULL, "ahoy", 4, answer, sizeof answer, NULL));
    CHECK_TEXT(answer, "ahoy");
    return NULL;
}

/* Accepts whoever comes until one speaks, and echoes that. */
static void serve_one(int listener) {
    char word[4];
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        ssize_t got = recv(fd, word, sizeof word, 0);
        if (got == (ssize_t)sizeof word) send_all(fd, word, sizeof word);
        close(fd);
        if (got > 0) return;
    }
}

int main(void) {
    enum { FILLERS = 3 };
    holdings before = holdings_now();
    int fillers[FILLERS];
    const char *url = abstract_url();
    int listener = full_listener(url, fillers, FILLERS);
    ahoy_server server = start(OPTIONS(.workers = 1, .user = &seen, .on_open = tally_open,
                                       .on_message = tally_message, .on_close = tally_close));

    long begin = now_ms();
    outgoing(server, url, CONNECT_OPTIONS(.connect_ms = CONNECT_MS));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
    CHECK(now_ms() - begin >= CONNECT_MS - 20);
    CHECK_EQ(latch_count(&seen.opened), 0);
    CHECK_STATUS(ahoy_request(url, &REQUEST_OPTIONS(.timeout_ms = CONNECT_MS), "x", 1, NULL, 0, NULL),
                 AHOY_ERR_TIMEOUT);

    /* When there is room they are served. */
    CHECK_OK(ahoy_send(outgoing(server, url, CONNECT_OPTIONS(0)), "ahoy", 4));
    WAIT_UNTIL(stats_of(server).connecting == 1);
    for (int i = 0; i < FILLERS; i++) close(fillers[i]);
    serve_one(listener);
    latch_wait(&seen.bytes, 4);
    latch_wait(&seen.closed, 2);
    CHECK_EQ(latch_count(&seen.opened), 1);

    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, ask, (void *)url));
    serve_one(listener);
    CHECK(!pthread_join(thread, NULL));
    close(listener);
    ahoy_server_free(server);
    CHECK_HOLDINGS(before);
    return 0;
}
