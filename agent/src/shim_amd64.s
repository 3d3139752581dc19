#include "textflag.h"

// func clone(flags, stack uintptr, l *launch, command uintptr) (pid uintptr)
TEXT ·clone(SB), NOSPLIT, $16-40
	MOVQ	flags+0(FP), DI
	MOVQ	stack+8(FP), SI
	MOVQ	l+16(FP), R12
	MOVQ	command+24(FP), R13
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$56, AX
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	MOVQ	AX, pid+32(FP)
	RET

child:	// on the new stack; there is no way back
	MOVQ	R12, 0(SP)
	// By address: the linker would take a direct call, since the shim calls clone
	// again, for a recursion without end.
	MOVQ	$·runShim(SB), AX
	TESTQ	R13, R13
	JZ	enter
	MOVQ	$·runCommand(SB), AX

enter:
	CALL	AX
	UNDEF
