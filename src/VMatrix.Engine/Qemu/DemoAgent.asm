; The agent of the demo's guest. Build: nasm -f bin agent.asm
BITS 64
org 0x400000
%define MOST 1024
ehdr: db 0x7F,"ELF",2,1,1,0
 times 8 db 0
 dw 2,0x3e
 dd 1
 dq start, phdr-$$, 0
 dd 0
 dw 64,56,1,0,0,0
phdr: dd 1,7
 dq 0,$$,$$,filesize,filesize+2*MOST,0x1000

start:
 mov eax,2                 ; r12 = open(port, O_RDWR|O_NOCTTY)
 lea rdi,[rel port]
 mov esi,0x102
 syscall
 mov r12,rax
 mov eax,2                 ; r13 = open(random, O_RDWR)
 lea rdi,[rel random]
 mov esi,2
 syscall
 mov r13,rax

next:
 xor eax,eax               ; read(port, line, MOST): the terminal gives one line at a time
 mov edi,r12d
 lea rsi,[rel line]
 mov edx,MOST
 syscall
 test rax,rax
 jle stop
 cmp eax,1                 ; an empty line asks whether anybody is there
 je there
 cmp eax,2                 ; a line of one letter: sync()
 jne .message
 mov eax,162
 syscall
 jmp there
.message:
 lea rcx,[rax-1]           ; decode two letters a byte, 'a' to 'p'
 test cl,1
 jnz wrong
 shr ecx,1
 cmp ecx,49
 jb wrong
 mov r14d,ecx              ; bytes of the message
 lea rsi,[rel line]
 lea rdi,[rel message]
.decode:
 lodsw
 sub ax,0x6161
 shl al,4
 or al,ah
 stosb
 dec ecx
 jnz .decode

 lea rbx,[rel message]
 mov eax,227               ; clock_settime(CLOCK_REALTIME, message)
 xor edi,edi
 mov rsi,rbx
 syscall
 mov eax,1                 ; write(random, message + 16, 32)
 mov edi,r13d
 lea rsi,[rbx+16]
 mov edx,32
 syscall
 mov eax,16                ; ioctl(random, RNDRESEEDCRNG)
 mov edi,r13d
 mov esi,0x5207
 xor edx,edx
 syscall
 test rax,rax
 js wrong
 mov eax,170               ; sethostname(message + 49, message[48])
 lea rdi,[rbx+49]
 movzx esi,byte [rbx+48]
 syscall
 test rax,rax
 js wrong
 mov eax,2                 ; open(server, O_WRONLY|O_CREAT|O_TRUNC, 0644)
 lea rdi,[rel server]
 mov esi,0x241
 mov edx,0x1a4
 syscall
 test rax,rax
 js wrong
 mov r15,rax
 mov eax,1                 ; write(server, message + 49, rest)
 mov edi,r15d
 lea rsi,[rbx+49]
 lea edx,[r14-49]
 syscall
 mov eax,3                 ; close(server)
 mov edi,r15d
 syscall
 lea rsi,[rel good]
 jmp answer
wrong:
 lea rsi,[rel bad]
 jmp answer
there:
 lea rsi,[rel here]
answer:
 mov eax,1                 ; write(port, answer, 1)
 mov edi,r12d
 mov edx,1
 syscall
 jmp next
stop:
 mov eax,60
 mov edi,1
 syscall

port: db "/dev/ttyS1",0
random: db "/dev/random",0
server: db "/run/vmatrix/server",0
good: db "!"
bad: db "?"
here: db "."
filesize equ $-$$
line equ $$+((filesize+15)/16*16)
message equ line+MOST
