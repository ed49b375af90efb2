/*
 * The library prints nothing: not in ordinary use, not on errors, not even when a bug of its own is caught.
 */
#include "hooks.h"
#include "support.h"

#include <fcntl.h>
#include <unistd.h>

static void use_and_misuse(void) {
    tally seen = TALLY_INIT;
    char byte;
    ahoy_server none;
    ahoy_server_options bad = OPTIONS(.listen = "nonsense");
    (void)ahoy_server_start(&bad, &none);
    (void)ahoy_send((ahoy_conn){ 1 }, NULL, 1);
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .on_message = tally_message,
                                       .on_open = tally_open, .on_close = tally_close, .user = &seen));
    for (int i = 0; i < 3; i++) {
        int fd = dial(server);
        ahoy_test_panic(0);
        send_all(fd, "boom", 4);
        (void)recv_until_eof(fd, &byte, 1);
        close(fd);
    }
    latch_wait(&seen.closed, 3);
    WAIT_UNTIL(stats_of(server).panics == 3); /* it did happen */
    ahoy_test_fail("accept4", 24 /* EMFILE */, 0, 1);
    close(dial(server));
    latch_wait(&seen.closed, 4);
    ahoy_server_free(server);
}

int main(void) {
    int printed[2], saved_out = dup(STDOUT_FILENO), saved_err = dup(STDERR_FILENO);
    char text[4096] = "";
    CHECK(!pipe2(printed, O_CLOEXEC) && !fcntl(printed[0], F_SETFL, O_NONBLOCK));
    fflush(NULL);
    dup2(printed[1], STDOUT_FILENO);
    dup2(printed[1], STDERR_FILENO);
    /* The variable that makes Rust programs talk changes nothing. */
    setenv("RUST_BACKTRACE", "full", 1);
    setenv("RUST_LOG", "trace", 1);
    use_and_misuse();
    fflush(NULL);
    dup2(saved_out, STDOUT_FILENO);
    dup2(saved_err, STDERR_FILENO);
    ssize_t got = read(printed[0], text, sizeof text - 1);
    if (got > 0) fprintf(stderr, "printed: %s\n", text);
    CHECK_EQ(got, -1);
    return 0;
}
