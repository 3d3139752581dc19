//go:build race

// Package without_ptrace drops CAP_SYS_PTRACE before the process has a second thread, if it is one of the test
// program's that are agents: see TestMain and isolated.
package without_ptrace

/*
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((constructor)) static void drop(void) {
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
	const __u32 keep = ~(1u << CAP_SYS_PTRACE);
	if (!getenv("AGENT_UNDER_TEST") && !getenv("AGENT_TEST_ISOLATED"))
		return;
	prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, CAP_SYS_PTRACE, 0, 0);
	if (syscall(SYS_capget, &header, sets) != 0)
		abort();
	sets[0].effective &= keep;
	sets[0].permitted &= keep;
	sets[0].inheritable &= keep;
	if (syscall(SYS_capset, &header, sets) != 0)
		abort();
}
*/
import "C"
