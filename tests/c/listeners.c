/*
 * ahoy_server_listeners gives copies of a server's listening sockets, in the order of the options: they outlive the
 * server, its Unix files included, and another server goes on with them.
 */
#include "dgram.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LISTENERS = 5 };

static tally seen;

static ahoy_server begin(const char *listen) {
    return start(OPTIONS(.listen = listen, .workers = 1, .user = &seen, .on_open = tally_open,
                         .on_message = tally_echo, .on_close = tally_close));
}

static void check_addresses(ahoy_server server, char urls[LISTENERS][160]) {
    char url[160];
    for (size_t i = 0; i < LISTENERS; i++) {
        CHECK_OK(ahoy_server_address(server, i, url, sizeof url));
        CHECK_TEXT(url, urls[i]);
    }
    CHECK_STATUS(ahoy_server_address(server, LISTENERS, url, sizeof url), AHOY_ERR_INVALID);
}

static void check_all_serve(char urls[LISTENERS][160]) {
    char echo[4];
    for (int i = 0; i < LISTENERS; i++) {
        if (strncmp(urls[i], "udp", 3) == 0 || strncmp(urls[i], "unixgram", 8) == 0) {
            int fd = dgram_dial_url(urls[i], urls[i][1] == 'n' ? dgram_name(1) : NULL);
            dgram_send(fd, "ahoy", 4);
            dgram_expect(fd, "ahoy", 4);
            close(fd);
        } else {
            int fd = dial_url(urls[i]);
            send_all(fd, "ahoy", 4);
            recv_exact(fd, echo, 4);
            close(fd);
        }
    }
}

static void refuses(ahoy_server server) {
    int fds[LISTENERS] = { 77, 77, 77, 77, 77 };
    size_t count = 77;
    holdings before = holdings_now();
    for (size_t capacity = 0; capacity < LISTENERS; capacity++) {
        count = 77;
        CHECK_STATUS(ahoy_server_listeners(server, fds, capacity, &count), AHOY_ERR_TOO_LONG);
        CHECK_EQ(count, LISTENERS);
    }
    count = 77;
    CHECK_STATUS(ahoy_server_listeners(server, NULL, 0, &count), AHOY_ERR_TOO_LONG); /* to ask how many */
    CHECK_EQ(count, LISTENERS);
    CHECK_STATUS(ahoy_server_listeners(server, NULL, LISTENERS, &count), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_server_listeners(server, fds, LISTENERS, NULL), AHOY_ERR_NULL);
    for (int i = 0; i < LISTENERS; i++) CHECK_EQ(fds[i], 77);
    CHECK_HOLDINGS(before);
}

int main(void) {
    seen = (tally)TALLY_INIT;
    holdings before = holdings_now();
    char folder[64], list[512], urls[LISTENERS][160];
    struct stat file;
    snprintf(folder, sizeof folder, "%s", make_folder());
    snprintf(list, sizeof list, "tcp://127.0.0.1:0,unix:%s/stream,udp://127.0.0.1:0,unixgram:%s/datagrams,%s", folder,
             folder, abstract_url());
    ahoy_server old = begin(list);
    for (size_t i = 0; i < LISTENERS; i++) CHECK_OK(ahoy_server_address(old, i, urls[i], sizeof urls[i]));
    refuses(old);

    int fds[LISTENERS + 1] = { [LISTENERS] = 77 };
    size_t count = 0;
    CHECK_OK(ahoy_server_listeners(old, fds, LISTENERS + 1, &count));
    CHECK_EQ(count, LISTENERS);
    CHECK_EQ(fds[LISTENERS], 77);
    size_t used = 0;
    for (int i = 0; i < LISTENERS; i++) {
        CHECK(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        used += (size_t)snprintf(list + used, sizeof list - used, "%sfd:%d", i ? "," : "", fds[i]);
    }
    check_all_serve(urls); /* it goes on as before */
    CHECK_OK(ahoy_server_stop(old, 0));
    CHECK_STATUS(ahoy_server_listeners(old, fds, LISTENERS, &count), AHOY_ERR_STOPPED);
    CHECK_OK(ahoy_server_wait(old));
    CHECK_STATUS(ahoy_server_listeners(old, fds, LISTENERS, &count), AHOY_ERR_STOPPED);
    ahoy_server_free(old);
    CHECK_STATUS(ahoy_server_listeners(old, fds, LISTENERS, &count), AHOY_ERR_STALE);
    CHECK(!stat(strchr(urls[1], '/'), &file) && !stat(strchr(urls[3], '/'), &file));

    /* Who connects now waits for the next one. */
    char echo[4];
    int fd = dial_url(urls[1]);
    send_all(fd, "wait", 4);
    ahoy_server next = begin(list);
    check_addresses(next, urls);
    recv_exact(fd, echo, 4);
    close(fd);
    check_all_serve(urls);

    /* Two at once share the sockets, until one of them is stopped. */
    CHECK_OK(ahoy_server_listeners(next, fds, LISTENERS, &count));
    used = 0;
    for (int i = 0; i < LISTENERS; i++) {
        used += (size_t)snprintf(list + used, sizeof list - used, "%sfd:%d", i ? "," : "", fds[i]);
    }
    ahoy_server last = begin(list);
    for (int i = 0; i < 10; i++) check_all_serve(urls);
    ahoy_server_free(next);
    check_all_serve(urls);
    ahoy_server_free(last);
    CHECK(try_dial_url(urls[0]) == -ECONNREFUSED);

    ahoy_server empty = start(OPTIONS(.workers = 1)); /* without listeners there are none */
    count = 77;
    CHECK_OK(ahoy_server_listeners(empty, NULL, 0, &count));
    CHECK_EQ(count, 0);
    ahoy_server_free(empty);
    remove_folder();
    CHECK_EQ(latch_count(&seen.opened), latch_count(&seen.closed));
    CHECK_HOLDINGS(before);
    return 0;
}
