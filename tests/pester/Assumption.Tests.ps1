# examples/Test-HyperVAssumption.ps1 on the doubled modules: it finds nothing on hosts as VMatrix expects them, finds what was changed, and leaves nothing behind.
BeforeAll {
    . "$PSScriptRoot/Doubles.ps1"
    $script:File = (Resolve-Path "$PSScriptRoot/../../examples/Test-HyperVAssumption.ps1").Path
}

Describe 'Test-HyperVAssumption.ps1' {
    BeforeEach {
        $script:World = Use-DoubleWorld (Join-Path $TestDrive ([guid]::NewGuid().ToString('n')))
        Import-Module Hyper-V
        $null = New-VM -ComputerName host1 -Name web -MemoryStartupBytes 1GB -Generation 2 -NewVHDPath 'C:\web.vhdx' -NewVHDSizeBytes 4GB -SwitchName LAN
        $script:Before = Get-VM -ComputerName host1, host2 | ConvertTo-Json -Depth 3
    }

    It 'finds every assumption true on the doubles, and changes nothing by itself' {
        $answers = & $File -ComputerName host1 -All
        $answers | Where-Object Holds -EQ $false | ForEach-Object { "$($_.Assumption): $($_.Found)" } | Should -BeNullOrEmpty
        $answers.Count | Should -BeGreaterThan 60
        $answers | Where-Object { -not $_.Matters } | Should -BeNullOrEmpty
        & $File -ComputerName host1 | Should -BeNullOrEmpty -Because 'only what does not hold is shown unless all is asked for'
        Get-VM -ComputerName host1, host2 | ConvertTo-Json -Depth 3 | Should -Be $Before
    }

    It 'with -AllowChange makes a machine of its own, and takes it away again' {
        $nest = New-Item -ItemType Directory (Join-Path $TestDrive ([guid]::NewGuid().ToString('n')))
        $answers = & $File -ComputerName host1, host2 -AllowChange -NestFolder $nest.FullName -All -Confirm:$false
        $answers | Where-Object Holds -EQ $false | ForEach-Object { "$($_.ComputerName) $($_.Assumption): $($_.Found)" } | Should -BeNullOrEmpty
        ($answers | Where-Object Assumption -EQ 'Notes come back as they were written').Holds | Should -Be $true, $true
        ($answers | Where-Object Assumption -Like '*a copy is another machine*').Holds | Should -Be $true, $true
        ($answers | Where-Object Assumption -Like '*sleeps in the nest*').Holds | Should -Be $true, $true
        Get-VM -ComputerName host1, host2 | ConvertTo-Json -Depth 3 | Should -Be $Before
        Get-ChildItem $nest | Should -BeNullOrEmpty
        & $File -ComputerName host1 -AllowChange -WhatIf | Should -BeNullOrEmpty
    }

    It 'tells a host that is not reached, and one that has live migration off' {
        Disable-VMMigration -ComputerName host1
        (& $File -ComputerName host1, nowhere).Assumption | Should -Be 'Live migration is enabled', 'The host answers and lets this account ask for its settings'
    }

    It 'tells each command that the module does not have as VMatrix calls it' {
        # A module of the same name that has lost a command and a parameter.
        $folder = New-Item -ItemType Directory (Join-Path $TestDrive 'modules/Hyper-V')
        Set-Content (Join-Path $folder 'Hyper-V.psm1') 'function Get-VM { param([string[]] $ComputerName, [guid] $Id) }; function Get-VMHost { param([string[]] $ComputerName, [pscredential[]] $Credential) }'
        $found = pwsh -NoProfile -NonInteractive -Command "`$env:PSModulePath = '$($folder.Parent.FullName)'; & '$File' -ComputerName host1 | Where-Object { -not `$_.ComputerName } | ForEach-Object Assumption"
        $found | Should -Contain 'One parameter set takes Hyper-V\Get-VM -Id -ComputerName -Credential'
        ($found -match '^There is Hyper-V\\Save-VM').Count | Should -Be 1
    }

    It 'knows every command that the driver calls' {
        $text = Get-Content -Raw $File
        $called = Get-ChildItem "$PSScriptRoot/../../src/VMatrix.Engine/HyperV/*.cs", "$PSScriptRoot/../../src/VMatrix.Engine/Nlb/*.cs" | ForEach-Object { [regex]::Matches((Get-Content -Raw $_), '"((?:Hyper-V|FailoverClusters|NetworkLoadBalancingClusters|CimCmdlets)\\\\[A-Za-z-]+)"').ForEach({ $_.Groups[1].Value -replace '\\\\', '\' }) } | Sort-Object -Unique
        $called.Count | Should -BeGreaterThan 20
        foreach ($command in $called) { $text | Should -BeLike "*Command = '$command'*" }
    }
}
