/*
 * One server listens on many addresses at once: IPv4, IPv6, a name, socket files, abstract names. Each
 * tells the URL that it really has, and each is served.
 */
#include "support.h"

#include <unistd.h>

static void serves(const char *url) {
    char answer[17];
    int fd = dial_url(url);
    send_all(fd, "hi", 2);
    recv_exact(fd, answer, sizeof answer);
    CHECK(memcmp(answer, "Hello from server", 17) == 0);
    close(fd);
}

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

int main(void) {
    holdings before = holdings_now();
    const char *folder = make_folder(), *name = abstract_url();
    char listen[512], url[128], file[128];
    snprintf(file, sizeof file, "unix:%s/a.sock", folder);
    snprintf(listen, sizeof listen, "tcp://127.0.0.1:0,tcp://[::1]:0,%s,%s,tcp://0.0.0.0:0,tcp://[::]:0",
             file, name);
    ahoy_server server = start(OPTIONS(.listen = listen, .workers = 2));

    const char *expected[] = { "tcp://127.0.0.1:", "tcp://[::1]:", file, name, "tcp://0.0.0.0:",
                               "tcp://[::]:" };
    for (size_t i = 0; i < 6; i++) {
        CHECK_OK(ahoy_server_address(server, i, url, sizeof url));
        CHECK(starts_with(url, expected[i]));
        CHECK(!starts_with(url, "tcp") || strcmp(strrchr(url, ':'), ":0") != 0);
        serves(url);
    }

    /* The address is written whole or not at all. */
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    size_t len = strlen(url);
    char small[128] = "unchanged";
    CHECK_STATUS(ahoy_server_address(server, 0, small, len), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_server_address(server, 0, small, 0), AHOY_ERR_TOO_LONG);
    CHECK_TEXT(small, "unchanged");
    CHECK_OK(ahoy_server_address(server, 0, small, len + 1));
    CHECK_TEXT(small, url);
    CHECK_STATUS(ahoy_server_address(server, 6, url, sizeof url), AHOY_ERR_INVALID);
    CHECK_STATUS(ahoy_server_address(server, SIZE_MAX, url, sizeof url), AHOY_ERR_INVALID);
    ahoy_server_free(server);
    CHECK_HOLDINGS(before);

    /* One port, both families, as the header says. */
    server = start(OPTIONS(.listen = "tcp://0.0.0.0:0"));
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    snprintf(listen, sizeof listen, "tcp://[::]%s", strrchr(url, ':'));
    ahoy_server second = start(OPTIONS(.listen = listen));
    ahoy_server_free(second);
    ahoy_server_free(server);

    /* A name counts as as many listeners as it has addresses. */
    server = start(OPTIONS(.listen = "tcp://localhost:0", .workers = 1));
    size_t count = 0;
    while (ahoy_server_address(server, count, url, sizeof url) == AHOY_OK) {
        CHECK(starts_with(url, "tcp://127.0.0.1:") || starts_with(url, "tcp://[::1]:"));
        serves(url);
        count++;
    }
    CHECK(count >= 1);
    ahoy_server_free(server);

    /* Nowhere: a server for adopted sockets alone. */
    server = start(OPTIONS(.listen = NULL));
    CHECK_STATUS(ahoy_server_address(server, 0, url, sizeof url), AHOY_ERR_INVALID);
    ahoy_server_free(server);
    remove_folder();
    CHECK_HOLDINGS(before);
    return 0;
}
