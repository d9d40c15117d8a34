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

    It 'looks a credential up by name, and says what is missing' {
        $path = Join-Path $TestDrive 'admin.xml'
        [pscredential]::new('Ada', (ConvertTo-SecureString 'x' -AsPlainText -Force)) | Export-Clixml $path
        $call = [VMatrix.Shells.ShellCall]@{
            Commands = [VMatrix.Shells.ShellCommand[]]@([VMatrix.Shells.ShellCommand]::new('Microsoft.PowerShell.Utility\Write-Output', [System.Collections.Generic.Dictionary[string, object]]::new()))
            Properties = [string[]]@('UserName')
        }
        $call.Commands[0].Parameters['InputObject'] = [VMatrix.Shells.ShellSecret]::new($path)
        $shell.InvokeAsync($call, [Threading.CancellationToken]::None).GetAwaiter().GetResult()[0]['UserName'] | Should -Be 'Ada'
        $call.Commands[0].Parameters['InputObject'] = [VMatrix.Shells.ShellSecret]::new('/no/such.xml')
        { $shell.InvokeAsync($call, [Threading.CancellationToken]::None).GetAwaiter().GetResult() } | Should -Throw '*Export-Clixml*'
    }
}
