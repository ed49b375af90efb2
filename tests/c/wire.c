#include "wire.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Framings -------------------------------------------------------------------------------- */

const wire wires[WIRES] = {
    { .query = "framing=lines", .framing = AHOY_FRAMING_LINES, .message_max = SIZE_MAX },
    { .query = "framing=length&length_bytes=1", .framing = AHOY_FRAMING_LENGTH, .length_bytes = 1,
      .message_max = 255 },
    { .query = "framing=length&length_bytes=2&length_order=big", .framing = AHOY_FRAMING_LENGTH,
      .length_bytes = 2, .message_max = 65535 },
    { .query = "framing=length&length_bytes=2&length_order=little", .framing = AHOY_FRAMING_LENGTH,
      .length_bytes = 2, .length_order = AHOY_ORDER_LITTLE, .message_max = 65535 },
    { .query = "framing=length", .framing = AHOY_FRAMING_LENGTH, .length_bytes = 4, .message_max = UINT32_MAX },
    { .query = "framing=length&length_order=little", .framing = AHOY_FRAMING_LENGTH, .length_bytes = 4,
      .length_order = AHOY_ORDER_LITTLE, .message_max = UINT32_MAX },
    { .query = "framing=delimiter&delimiter=%0D%0A%0d%0a", .framing = AHOY_FRAMING_DELIMITER,
      .delimiter = "\r\n\r\n", .message_max = SIZE_MAX },
    { .query = "framing=delimiter&delimiter=%3B", .framing = AHOY_FRAMING_DELIMITER, .delimiter = ";",
      .message_max = SIZE_MAX },
};

const wire wire_raw = { .query = "framing=raw", .framing = AHOY_FRAMING_RAW, .message_max = SIZE_MAX };

size_t wire_encode(const wire *wire, const void *data, size_t len, void *out) {
    const char *tail = wire->framing == AHOY_FRAMING_LINES ? "\n" : wire->delimiter ? wire->delimiter : "";
    unsigned char *at = out;
    CHECK(len <= wire->message_max);
    for (uint32_t i = 0; i < wire->length_bytes; i++) {
        uint32_t place = wire->length_order == AHOY_ORDER_LITTLE ? i : wire->length_bytes - 1 - i;
        *at++ = (unsigned char)(len >> 8 * place);
    }
    if (len) memcpy(at, data, len);
    at += len;
    memcpy(at, tail, strlen(tail));
    return (size_t)(at - (unsigned char *)out) + strlen(tail);
}

void wire_send(const wire *wire, int fd, const void *data, size_t len) {
    char *framed = malloc(len + WIRE_FRAME_MAX);
    send_all(fd, framed, wire_encode(wire, data, len, framed));
    free(framed);
}

void wire_expect(const wire *wire, int fd, const void *data, size_t len) {
    char *framed = malloc(len + WIRE_FRAME_MAX), *got = malloc(len + WIRE_FRAME_MAX);
    size_t total = wire_encode(wire, data, len, framed);
    recv_exact(fd, got, total);
    CHECK(memcmp(got, framed, total) == 0);
    free(framed), free(got);
}

void wire_options(const wire *wire, ahoy_server_options *options, ahoy_framing_options *particulars) {
    *particulars = (ahoy_framing_options){
        .size = sizeof *particulars, .delimiter = wire->delimiter,
        .length_bytes = wire->length_bytes, .length_order = wire->length_order,
    };
    options->framing = wire->framing;
    options->framing_options = particulars;
}

static char letter_at(size_t offset) {
    return (char)('a' + offset % 23);
}

void letters_fill(void *data, size_t len, size_t offset) {
    for (size_t i = 0; i < len; i++) ((char *)data)[i] = letter_at(offset + i);
}

bool letters_match(const void *data, size_t len, size_t offset) {
    for (size_t i = 0; i < len; i++) {
        if (((const char *)data)[i] != letter_at(offset + i)) return false;
    }
    return true;
}

int dial_listener(ahoy_server server, size_t index) {
    char url[160];
    CHECK_OK(ahoy_server_address(server, index, url, sizeof url));
    return dial_url(url);
}

void send_pieces(ahoy_server server, int fd, const void *data, size_t len, size_t piece) {
    uint64_t before = stats_of(server).bytes_in;
    for (size_t sent = 0; sent < len;) {
        size_t more = len - sent < piece ? len - sent : piece;
        send_all(fd, (const char *)data + sent, more);
        sent += more;
        while (stats_of(server).bytes_in < before + sent) sched_yield();
    }
}

/* ---- What came ------------------------------------------------------------------------------- */

void journal_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)conn;
    journal *journal = user;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = ((const unsigned char *)data)[i];
        bool prints = byte > ' ' && byte < 0x7f;
        CHECK(journal->used + 8 < sizeof journal->text);
        journal->used += (size_t)sprintf(journal->text + journal->used, prints ? "%c" : "\\x%02x", byte);
    }
    CHECK(journal->used + 2 < sizeof journal->text);
    memcpy(journal->text + journal->used++, "|", 2);
    latch_add(&journal->seen.bytes, (long)len);
    latch_add(&journal->seen.messages, 1);
}

/* ---- The rest -------------------------------------------------------------------------------- */

uint32_t random_below(uint64_t *state, uint32_t bound) {
    uint64_t mixed = *state += 0x9e3779b97f4a7c15; /* splitmix64 */
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return (uint32_t)((mixed ^ mixed >> 31) % bound);
}

size_t resident_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long all, resident;
    CHECK(file && fscanf(file, "%lu %lu", &all, &resident) == 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

void round_trip(ahoy_server server) {
    int pair[2];
    char end;
    ahoy_conn conn;
    stream_pair(pair);
    CHECK_OK(ahoy_server_adopt(server, pair[0], &conn));
    CHECK_OK(ahoy_conn_close(conn));
    CHECK_EQ(recv_until_eof(pair[1], &end, 1), 0);
    close(pair[1]);
}

/* ---- Crowds ---------------------------------------------------------------------------------- */

typedef struct order {
    size_t bytes, offset; /* to read; no bytes: one more descriptor comes with it */
} order;

static void read_all(const int *fds, long count, size_t bytes, size_t offset) {
    static char some[16384];
    size_t *got = calloc((size_t)count, sizeof *got);
    for (long left = count; left > 0;) {
        bool idle = true;
        for (long i = 0; i < count; i++) {
            if (got[i] == bytes) continue;
            size_t wanted = bytes - got[i] < sizeof some ? bytes - got[i] : sizeof some;
            ssize_t more = recv(fds[i], some, wanted, MSG_DONTWAIT);
            if (more < 0 && errno == EAGAIN) continue;
            CHECK(more > 0);
            CHECK(pattern_matches(some, (size_t)more, offset + got[i]));
            got[i] += (size_t)more;
            left -= got[i] == bytes;
            idle = false;
        }
        if (idle) wait_moment();
    }
    free(got);
}

/* An order and, with it, a descriptor (SCM_RIGHTS): -1 if there is none. False: no more orders. */
static bool receive_order(int orders, order *order, int *fd) {
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec part = { order, sizeof *order };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof control };
    ssize_t got = recvmsg(orders, &message, MSG_CMSG_CLOEXEC);
    *fd = -1;
    if (got == sizeof *order && CMSG_FIRSTHDR(&message)) memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof *fd);
    return got == sizeof *order;
}

static void send_descriptor(int orders, int fd) {
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .head = { .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
    order order = { 0 };
    struct iovec part = { &order, sizeof order };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof control };
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    CHECK(sendmsg(orders, &message, 0) == sizeof order);
}

static _Noreturn void be_crowd(int orders, long count) {
    order order;
    int *fds = calloc((size_t)count, sizeof *fds), fd;
    deadline_seconds(120); /* a child does not inherit it */
    for (long joined = 0; receive_order(orders, &order, &fd);) {
        if (fd >= 0) fds[joined++] = fd;
        else read_all(fds, count, order.bytes, order.offset);
        if (joined == count) CHECK(write(orders, "", 1) == 1);
    }
    leave_child();
}

crowd crowd_begin(long count) {
    int pair[2];
    CHECK(descriptors_allow((unsigned)count + 100));
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    fflush(NULL);
    crowd crowd = { .orders = pair[1], .process = fork(), .count = count };
    CHECK(crowd.process >= 0);
    if (crowd.process == 0) {
        close(pair[1]);
        be_crowd(pair[0], count);
    }
    close(pair[0]);
    return crowd;
}

static void wait_until_done(crowd *crowd) {
    char done;
    CHECK(read(crowd->orders, &done, 1) == 1);
}

void crowd_join(crowd *crowd, ahoy_server server) {
    for (long i = 0; i < crowd->count; i++) {
        int pair[2], least = 1;
        ahoy_status status;
        stream_pair(pair);
        for (int j = 0; j < 2; j++) CHECK(!setsockopt(pair[j], SOL_SOCKET, SO_SNDBUF, &least, sizeof least));
        while ((status = ahoy_server_adopt(server, pair[0], NULL)) == AHOY_ERR_AGAIN) wait_moment();
        CHECK_OK(status);
        send_descriptor(crowd->orders, pair[1]);
        close(pair[1]);
    }
    wait_until_done(crowd);
}

void crowd_read(crowd *crowd, size_t bytes, size_t offset) {
    order order = { bytes, offset };
    CHECK(bytes > 0 && send(crowd->orders, &order, sizeof order, 0) == sizeof order);
    wait_until_done(crowd);
}

void crowd_end(crowd *crowd) {
    int status;
    close(crowd->orders);
    CHECK(waitpid(crowd->process, &status, 0) == crowd->process);
    CHECK_EQ(status, 0);
}
