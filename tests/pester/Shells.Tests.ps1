# The checks that every shell passes, on the runspaces of this process; tests/VMatrix.Engine.Tests makes the same ones on the child process.
BeforeDiscovery {
    . "$PSScriptRoot/Doubles.ps1"
    $script:Checks = [VMatrix.Doubles.ShellChecks]::Names | ForEach-Object { @{ Check = $_ } }
}

Describe 'The shell in this process' {
    BeforeAll {
        . "$PSScriptRoot/Shared.ps1"
        . "$PSScriptRoot/Doubles.ps1"
        Import-Module $Module
        $world = Use-DoubleWorld (Join-Path $TestDrive 'world') -HostName host1
        $shell = [VMatrix.Shells.RunspaceShell]::Provider.Open([VMatrix.Doubles.ShellChecks]::CallsAtOnce)
    }

    AfterAll {
        if ($shell) { $shell.DisposeAsync().AsTask().GetAwaiter().GetResult() }
        [Environment]::SetEnvironmentVariable([VMatrix.Doubles.DoubleWorld]::Variable, $null)
    }

    It '<Check>' -ForEach $Checks {
        [VMatrix.Doubles.ShellChecks]::RunAsync($Check, $shell, $world).GetAwaiter().GetResult()
    }

    It 'leaves the user''s own session as it is' {
        $before = Get-Module | ForEach-Object Name
        $null = [VMatrix.Doubles.ShellChecks]::RunAsync('The doubled modules work through it', $shell, $world).GetAwaiter().GetResult()
        Get-Module | ForEach-Object Name | Should -Be $before
    }
}
