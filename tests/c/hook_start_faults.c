/*
 * Torture: every call that ahoy_server_start makes and that can fail is made to fail, one after the other,
 * at every position. The start answers with an error and leaves nothing; the next one works.
 */
#include "hooks.h"
#include "support.h"

#include <errno.h>
#include <unistd.h>

typedef struct fault {
    const char *call;
    int error;
    ahoy_status expected;
} fault;

static const fault faults[] = {
    { "socket", EMFILE, AHOY_ERR_DESCRIPTORS }, { "socket", ENOBUFS, AHOY_ERR_MEMORY },
    { "bind", EADDRINUSE, AHOY_ERR_ADDRESS_IN_USE }, { "bind", EACCES, AHOY_ERR_PERMISSION },
    { "listen", EADDRINUSE, AHOY_ERR_ADDRESS_IN_USE }, { "listen", ENOBUFS, AHOY_ERR_MEMORY },
    { "epoll_create1", EMFILE, AHOY_ERR_DESCRIPTORS }, { "epoll_create1", ENOMEM, AHOY_ERR_MEMORY },
    { "eventfd", ENFILE, AHOY_ERR_DESCRIPTORS }, { "timerfd", EMFILE, AHOY_ERR_DESCRIPTORS },
    { "epoll_ctl", ENOSPC, AHOY_ERR_SYSTEM }, { "epoll_ctl", ENOMEM, AHOY_ERR_MEMORY },
    { "spawn", EAGAIN, AHOY_ERR_THREAD }, { "memory", ENOMEM, AHOY_ERR_MEMORY },
};

static char listen_url[512], socket_file[128];

static void served(ahoy_server server) {
    for (size_t i = 0; i < 2; i++) {
        char url[128], answer[17];
        CHECK_OK(ahoy_server_address(server, i, url, sizeof url));
        int fd = dial_url(url);
        send_all(fd, "hi", 2);
        CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 17);
        close(fd);
    }
}

/* Fails the call at every position: how many positions there are. */
static int torture(const fault *fault, int32_t workers, bool all_later) {
    for (int skip = 0;; skip++) {
        tally seen = TALLY_INIT;
        ahoy_server server = { 77 };
        ahoy_server_options options = OPTIONS(.listen = listen_url, .workers = workers,
                                              .on_free = tally_free, .user = &seen);
        holdings before = holdings_now();
        ahoy_test_fail(fault->call, fault->error, skip, all_later ? -1 : 1);
        ahoy_status status = ahoy_server_start(&options, &server);
        bool reached = ahoy_test_calls(fault->call) > skip;
        ahoy_test_fail(fault->call, 0, 0, 0);

        if (!reached) {
            /* There is no such position any more: it all worked. */
            CHECK_OK(status);
            ahoy_server_free(server);
            CHECK_HOLDINGS(before);
            return skip;
        }
        if (status == AHOY_OK) {
            /* After the start the running workers make some of the calls as well, and bear it. */
            ahoy_server_free(server);
            CHECK_EQ(latch_count(&seen.freed), 1);
        } else {
            if (status != fault->expected) fprintf(stderr, "%s, after %d\n", fault->call, skip);
            CHECK_STATUS(status, fault->expected);
            CHECK_EQ(server.id, 77);
            CHECK(strlen(ahoy_last_error()) > 0);
            CHECK_EQ(latch_count(&seen.freed), 0);
        }
        CHECK_HOLDINGS(before);
        CHECK(access(socket_file, F_OK) != 0);
    }
}

int main(void) {
    static const int32_t workers[] = { 1, 3, AHOY_WORKERS_NONE };
    snprintf(socket_file, sizeof socket_file, "%s/a.sock", make_folder());
    snprintf(listen_url, sizeof listen_url, "tcp://127.0.0.1:0,unix:%s", socket_file);

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        for (size_t j = 0; j < sizeof workers / sizeof workers[0]; j++) {
            int positions = torture(&faults[i], workers[j], false);
            torture(&faults[i], workers[j], true);
            printf("%s, %d workers: %d positions\n", faults[i].call, workers[j], positions);
            bool thread = strcmp(faults[i].call, "spawn") == 0;
            bool timer = strcmp(faults[i].call, "timerfd") == 0;
            if (thread) CHECK_EQ(positions, workers[j] > 0 ? workers[j] : 0);
            else if (!timer) CHECK(positions > 0); /* the torture reached something */

            holdings before = holdings_now();
            ahoy_server server = start(OPTIONS(.listen = listen_url, .workers = 2));
            served(server);
            ahoy_server_free(server);
            CHECK_HOLDINGS(before);
        }
    }
    remove_folder();
    return 0;
}
