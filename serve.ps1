# The PowerShell that carries out commands for a program that is none, such as vmatrix-oracle: reads calls from standard input until it ends.
param([int] $CallsAtOnce = 16)
Import-Module "$PSScriptRoot/VMatrix.psd1"
[VMatrix.Shells.ShellHost]::Serve($CallsAtOnce)
